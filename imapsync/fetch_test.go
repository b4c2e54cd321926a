package imapsync

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseHeader(t *testing.T) {
	in := "Message-ID: <a@b>\r\nReferences:\r\n <1@x>\r\n\t<2@x> <bad\r\nno colon\r\n continued nothing\r\nLIST-ID : List <l.x>\r\nSubject: \xff\x00\r\n\r\n"
	want := map[string][]string{"message-id": {"<a@b>"}, "references": {"<1@x> <2@x> <bad"}, "list-id": {"List <l.x>"}, "subject": {"\uFFFD"}}
	got := parseHeader([]byte(in))
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("header (-want +got):\n%s", diff)
	}
	for _, c := range []struct {
		in   string
		want []string
	}{
		{"<a@b>", []string{"<a@b>"}},
		{"<a@b><c@d>", []string{"<a@b>", "<c@d>"}},
		{"a@b", []string{"<a@b>"}},
		{"", nil},
		{"<>", nil},
		{"<a@b", nil},
		{"text <a@b> more < c@d >", []string{"<a@b>", "<c@d>"}},
	} {
		if diff := cmp.Diff(c.want, idsIn(c.in)); diff != "" {
			t.Errorf("ids in %q (-want +got):\n%s", c.in, diff)
		}
	}
	var many []string
	for i := range 60 {
		many = append(many, fmt.Sprintf("<%d@x>", i))
	}
	if ids := allIDs([]string{strings.Join(many, " ")}); len(ids) != maxReferences || ids[0] != "<10@x>" {
		t.Errorf("references = %v", ids)
	}
}
