package message

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/postrider/postrider/internal/message/messagetest"
	"github.com/postrider/postrider/internal/peertest"
)

// python reads messages with the standard library of Python, which shares nothing with us.
const python = `
import base64, email, email.policy, json, sys
out = []
for raw in json.load(sys.stdin):
    m = email.message_from_bytes(base64.b64decode(raw), policy=email.policy.default)
    def text(kind):
        part = m.get_body((kind,))
        return part.get_content().replace("\r\n", "\n") if part else ""
    out.append({"plain": text("plain"), "html": text("html"), "files": [p.get_filename() for p in m.walk() if p.get_filename()]})
json.dump(out, sys.stdout)
`

func TestWellMadeMail(t *testing.T) {
	all := messagetest.Well()
	type found struct {
		Plain, HTML string
		Files       []string
	}
	var raws [][]byte
	var ours []found
	for _, m := range all {
		raws = append(raws, []byte(m.Raw))
		_, c, plain, html, w := read([]byte(m.Raw), 1<<20)
		var files, kinds []string
		for _, a := range c.Attachments {
			kinds = append(kinds, strings.TrimSpace(a.Type+" "+a.Filename))
			if a.Filename != "" {
				files = append(files, a.Filename)
			}
		}
		if plain != m.Plain || html != m.HTML || !cmp.Equal(kinds, m.Files) || len(w) > 0 {
			t.Errorf("%s: %q, %q, %q, warnings %v", m.Name, plain, html, kinds, w)
		}
		ours = append(ours, found{plain, html, files})
	}
	var theirs []found
	peertest.Python(t, python, raws, &theirs)
	for i, m := range all {
		// get_content ends every text with a line end.
		for _, f := range []*found{&ours[i], &theirs[i]} {
			f.Plain, f.HTML = strings.TrimRight(f.Plain, "\n"), strings.TrimRight(f.HTML, "\n")
			if len(f.Files) == 0 {
				f.Files = nil
			}
		}
		if d := cmp.Diff(theirs[i], ours[i]); d != "" {
			t.Errorf("%s (-python +ours):\n%s", m.Name, d)
		}
	}
}
