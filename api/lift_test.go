package api

import (
	"encoding/base64"
	"reflect"
	"strconv"
	"strings"
	"testing"
)

func TestLift(t *testing.T) {
	for _, tt := range []struct {
		name, body, rest string
		octets           []string
	}{
		{"nothing", `{"subject":"x"}`, `{"subject":"x"}`, nil},
		{
			"attachments and raw", `{"raw":"QUI=","attachments":[{"filename":"a","content":"QQ=="},{"content": "QUJD" }]}`,
			`{"raw":"MARK0","attachments":[{"filename":"a","content":"MARK1"},{"content": "MARK2" }]}`,
			[]string{"AB", "A", "ABC"},
		},
		{
			"the same names elsewhere", `{"headers":{"raw":"QQ==","content":"QQ=="},"content":"QQ==","x":{"attachments":[{"content":"QQ=="}]}}`,
			`{"headers":{"raw":"QQ==","content":"QQ=="},"content":"QQ==","x":{"attachments":[{"content":"QQ=="}]}}`, nil,
		},
		{"not in a list", `{"attachments":{"content":"QQ=="}}`, `{"attachments":{"content":"QQ=="}}`, nil},
		{"deeper", `{"attachments":[{"x":{"content":"QQ=="}},[{"content":"QQ=="}]]}`, `{"attachments":[{"x":{"content":"QQ=="}},[{"content":"QQ=="}]]}`, nil},
		{"escaped name", `{"r\u0061w":"QQ=="}`, `{"r\u0061w":"MARK0"}`, []string{"A"}},
		{"a value that is a name", `{"subject":"raw","text":"QQ=="}`, `{"subject":"raw","text":"QQ=="}`, nil},
		{"quotes and braces in texts", `{"subject":"\"}],{\\","raw":"QQ=="}`, `{"subject":"\"}],{\\","raw":"MARK0"}`, []string{"A"}},
		{"twice", `{"raw":"QQ==","raw":"Qg=="}`, `{"raw":"MARK0","raw":"MARK1"}`, []string{"A", "B"}},
		{"no text", `{"raw":null,"attachments":[{"content":7},{"content":["QQ=="]}]}`, `{"raw":null,"attachments":[{"content":7},{"content":["QQ=="]}]}`, nil},
		{"escapes", `{"raw":"QU\/+\r\nQQ\u003d\u003d"}`, `{"raw":"MARK0"}`, []string{"AO\xfeA"}},
		{"lines", `{"raw":"QU\nJD \n"}`, `{"raw":"MARK0"}`, []string{"ABC"}},
		{"no padding", `{"raw":"QUI"}`, `{"raw":"MARK0"}`, []string{"AB"}},
		{"empty", `{"raw":""}`, `{"raw":"MARK0"}`, []string{""}},
		{"broken off", `{"raw":"QQ=`, `{"raw":"MARK0"`, []string{"A"}}, // no JSON, and stays none
		{"no JSON", `]]}{"raw":"QQ=="`, `]]}{"raw":"MARK0"`, []string{"A"}},
		{"too deep", strings.Repeat("[", 99) + `{"raw":"QQ=="`, strings.Repeat("[", 99) + `{"raw":"QQ=="`, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			rest, texts, ok := lift([]byte(tt.body), "MARK", 1000)
			if string(rest) != tt.rest || len(texts) != len(tt.octets) || !ok {
				t.Fatalf("%s with %d texts, %v", rest, len(texts), ok)
			}
			for i, l := range texts {
				if string(l.octets) != tt.octets[i] || l.bad {
					t.Errorf("text %d: %q, bad %v", i, l.octets, l.bad)
				}
			}
		})
	}
	for _, bad := range []string{"QQ=Q", "Q", "Q===", "QQ-_", "QQ==\\u00e9", "ä", "QQ\n==", "\\x", "\\", "\\u00", "=", "QQ\\\"", "QQ==QQ=="} {
		_, texts, _ := lift([]byte(`{"raw":"`+bad+`"}`), "MARK", 1000)
		if len(texts) == 1 && !texts[0].bad {
			t.Errorf("%q is taken for base64 of %q", bad, texts[0].octets)
		}
	}
	for size, want := range map[int]bool{12: false, 13: true} {
		if _, _, ok := lift([]byte(`{"x":"yyyyy"}`), "MARK", size); ok != want {
			t.Errorf("at most %d: %v", size, ok)
		}
	}
	large := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("octets ", 10_000)))
	if rest, texts, ok := lift([]byte(`{"raw":"`+large+`"}`), "M", 12); !ok || string(rest) != `{"raw":"M0"}` || string(texts[0].octets) != strings.Repeat("octets ", 10_000) {
		t.Errorf("a large text: %.50s %v", rest, ok)
	}
}

// Whatever comes: what was JSON is the same JSON afterwards, but for the texts that were
// taken out, and what was none is none.
func FuzzLift(f *testing.F) {
	for _, seed := range []string{
		`{"raw":"QUI=","attachments":[{"content":"QQ=="}]}`, `{"r\u0061w":"QQ\/\/","attachments":[[],{"content":"\"\\"}]}`,
		`{"raw":"`, `{"raw":"QQ==","raw":1}`, `[{"raw":"x"}]`, `{"attachments":[{"content":"a"},{"content":{}}],"raw":"MARK0"}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body string) {
		if strings.Contains(body, "MARK") || len(body) > 10_000 {
			return
		}
		rest, texts, ok := lift([]byte(body), "MARK", 1<<20)
		if !ok {
			t.Fatal("too large")
		}
		before, p := parseJSON([]byte(body))
		after, q := parseJSON(rest)
		if p != nil {
			// Only a text that is bad itself may have hidden that it is no JSON.
			for _, l := range texts {
				if l.bad {
					return
				}
			}
			if q == nil {
				t.Fatalf("%q became %q", body, rest)
			}
			return
		}
		if q != nil {
			t.Fatalf("%q became %q: %v", body, rest, q)
		}
		same(t, before, after, texts)
	})
}

// same compares a value with what lift left of it.
func same(t *testing.T, before, after any, texts []lifted) {
	switch a := after.(type) {
	case string:
		n, err := strconv.Atoi(strings.TrimPrefix(a, "MARK"))
		if !strings.HasPrefix(a, "MARK") || err != nil {
			break
		}
		octets, ok := decodeHere([]byte(before.(string)))
		if strings.Contains(before.(string), `\`) { // it means something else here than in JSON
			return
		}
		if ok == texts[n].bad && !strings.ContainsAny(before.(string), "\n\r\t") || ok && string(octets) != string(texts[n].octets) {
			t.Fatalf("%q became %q", before, texts[n].octets)
		}
		return
	case []any:
		for i := range a {
			same(t, before.([]any)[i], a[i], texts)
		}
		return
	case map[string]any:
		for k := range a {
			same(t, before.(map[string]any)[k], a[k], texts)
		}
		return
	}
	if !reflect.DeepEqual(before, after) {
		t.Fatalf("%v became %v", before, after)
	}
}

// A text of the request that looks like a mark is none.
func TestMarksCannotBeGuessed(t *testing.T) {
	c := &call{mark: "lifted:secret:", texts: []lifted{{octets: []byte("A")}}}
	for in, want := range map[string]bool{"lifted:secret:0": true, "lifted:secret:1": false, "lifted:secret:-1": false, "lifted::0": false, "QUI=": true} {
		if _, ok := c.text(in); ok != want {
			t.Errorf("%s: %v", in, ok)
		}
	}
	if _, ok := (&call{}).text("0"); ok {
		t.Error("a number is taken for a mark where there is none")
	}
}
