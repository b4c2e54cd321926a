package imapsync

import (
	"fmt"
	"strings"
	"testing"
)

func TestReferences(t *testing.T) {
	var many []string
	for i := range 60 {
		many = append(many, fmt.Sprintf("<%d@x>", i))
	}
	if ids := allIDs([]string{strings.Join(many, " ")}); len(ids) != maxReferences || ids[0] != "<10@x>" {
		t.Errorf("references = %v", ids)
	}
}
