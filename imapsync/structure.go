package imapsync

import (
	"strconv"
	"strings"

	"github.com/emersion/go-imap/v2"

	"github.com/postrider/postrider/internal/message"
)

// maxStructure bounds a BODYSTRUCTURE that is taken over; the wire bounds its depth.
const maxStructure = 2*message.MaxParts + 1 // more than are looked at, so that it is seen that there are

// partTree makes the parts of a message of what the server says of them; nil of nil.
func partTree(b imap.BodyStructure, w *message.Warnings) *message.Part {
	if b == nil {
		return nil
	}
	left := maxStructure
	return partOf(b, "", &left, w)
}

func partOf(b imap.BodyStructure, number string, left *int, w *message.Warnings) *message.Part {
	*left--
	q := &message.Part{Number: number, Type: strings.ToLower(message.Clean(b.MediaType()))}
	if d := b.Disposition(); d != nil {
		q.Disposition = strings.ToLower(message.Clean(d.Value))
		q.Filename = message.DecodeParams(d.Params, w)["filename"]
	}
	switch b := b.(type) {
	case *imap.BodyStructureMultiPart:
		q.Children = []*message.Part{} // of a multipart that is empty, too
		if number != "" {
			number += "."
		}
		for i, child := range b.Children {
			if *left > 0 {
				q.Children = append(q.Children, partOf(child, number+strconv.Itoa(i+1), left, w))
			}
		}
	case *imap.BodyStructureSinglePart:
		if number == "" {
			q.Number = "1"
		}
		if q.Type == "/" {
			q.Type = "application/octet-stream"
		}
		q.Params = message.DecodeParams(b.Params, w)
		if q.Filename == "" {
			q.Filename = q.Params["name"]
		}
		q.ContentID, q.Encoding, q.Size = message.Clean(b.ID), strings.ToLower(b.Encoding), int64(b.Size)
	}
	return q
}
