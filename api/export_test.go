package api

import (
	"go/ast"
	"go/parser"
	"go/token"
	"net/netip"
	"strconv"
	"time"
)

// GuardForTest gives the guard's two ends for one address.
func GuardForTest() (fail func(), blocked func() bool) {
	g, from := newGuard(), netip.MustParsePrefix("192.0.2.1/32")
	return func() { g.fail(from, time.Now()) }, func() bool { return g.blocked(from, time.Now()) > 0 }
}

// CodesForTest reads the constants of type Code from the source, so that one without an
// entry in codes is found.
func CodesForTest() []Code {
	file, err := parser.ParseFile(token.NewFileSet(), "problem.go", nil, 0)
	if err != nil {
		panic(err)
	}
	var out []Code
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if typ, ok := spec.Type.(*ast.Ident); ok && typ.Name == "Code" {
			text, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				panic(err)
			}
			out = append(out, Code(text))
		}
		return true
	})
	return out
}
