package api

import (
	"bytes"
	"embed"
	"encoding/json"
	"html/template"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

//go:embed pages
var pageFiles embed.FS

// pageCSP allows a page its own style sheet and form, and nothing from elsewhere.
const pageCSP = "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// humaConfig is how the API is described and read. huma's own pages are off: they load
// scripts from elsewhere.
func (s *Server) humaConfig() huma.Config {
	c := huma.DefaultConfig("Postrider", s.o.Version)
	c.OpenAPIPath, c.DocsPath, c.SchemasPath = "", "", ""
	c.CreateHooks = nil // would put $schema into every answer
	c.RejectUnknownQueryParameters = true
	format := huma.Format{Marshal: marshalTo, Unmarshal: json.Unmarshal}
	c.Formats = map[string]huma.Format{"application/json": format, "json": format}
	c.Info.Description = "Tells an application about every message in its users' mailboxes, once and in order."
	c.Info.License = &huma.License{Name: "Apache-2.0", Identifier: "Apache-2.0"}
	c.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"token": {Type: "http", Scheme: "bearer", Description: "A token of POST /v1/tokens. The scopes that a route names are alternatives; * has all."},
	}
	return c
}

// describe is the OpenAPI document as it is served.
func describe(doc *huma.OpenAPI) ([]byte, error) {
	b, err := json.Marshal(doc)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if err := json.Indent(&out, b, "", "  "); err != nil {
		return nil, err
	}
	out.WriteByte('\n')
	return out.Bytes(), nil
}

// pages are the few pages for people, made once.
type pages struct {
	index, errors []byte
	style         []byte
	templates     *template.Template
}

// operation is a route as the page at /docs lists it.
type operation struct {
	Method, Path, ID, Summary, Description string
	Scopes                                 []string
	Deprecated                             bool
}

// explained is a code as the page at /docs/errors lists it.
type explained struct {
	Code        Code
	Status      int
	Title, Help string
}

func newPages(doc *huma.OpenAPI) (pages, error) {
	t, err := template.ParseFS(pageFiles, "pages/*.html")
	if err != nil {
		return pages{}, err
	}
	p := pages{templates: t}
	if p.style, err = pageFiles.ReadFile("pages/style.css"); err != nil {
		return pages{}, err
	}
	var ops []operation
	for _, path := range slices.Sorted(maps.Keys(doc.Paths)) {
		item := doc.Paths[path]
		for _, op := range []*huma.Operation{item.Get, item.Post, item.Put, item.Delete} {
			if op == nil {
				continue
			}
			o := operation{Method: op.Method, Path: path, ID: op.OperationID, Summary: op.Summary, Description: op.Description, Deprecated: op.Deprecated}
			for _, alternative := range op.Security {
				o.Scopes = append(o.Scopes, alternative["token"]...)
			}
			ops = append(ops, o)
		}
	}
	var help []explained
	for _, code := range slices.Sorted(maps.Keys(codes)) {
		help = append(help, explained{code, codes[code].status, codes[code].title, codes[code].help})
	}
	if p.index, err = p.render("docs.html", map[string]any{"Version": doc.Info.Version, "Operations": ops}); err != nil {
		return pages{}, err
	}
	p.errors, err = p.render("errors.html", map[string]any{"Codes": help, "Troubles": troubles})
	return p, err
}

func (p pages) render(name string, data any) ([]byte, error) {
	var buf bytes.Buffer
	err := p.templates.ExecuteTemplate(&buf, name, data)
	return buf.Bytes(), err
}

// login is the sign-in page, with a remark.
func (p pages) login(remark string) []byte {
	b, err := p.render("login.html", remark)
	if err != nil { // New rendered the others; this one has nothing that could fail
		return []byte("sign in by POST /login")
	}
	return b
}

func (p pages) serve(w http.ResponseWriter, status int, page []byte) {
	w.Header().Set("Content-Security-Policy", pageCSP)
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(page) // the reader is gone: nobody to tell
}

// docRoutes serves the description of the API.
func (s *Server) docRoutes() {
	show := func(path, kind string, body []byte) {
		s.mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) {
			if s.o.Config.DocsNeedToken {
				if p := s.authenticate(r); p != nil {
					p.write(w, r)
					return
				}
			}
			if strings.HasPrefix(kind, "text/html") {
				s.pages.serve(w, http.StatusOK, body)
				return
			}
			w.Header().Set("Content-Type", kind)
			_, _ = w.Write(body)
		})
	}
	show("/openapi.json", "application/openapi+json", s.openapi)
	show("/docs", "text/html", s.pages.index)
	show("/docs/errors", "text/html", s.pages.errors)
	s.mux.HandleFunc("GET /docs/style.css", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/css; charset=utf-8")
		_, _ = w.Write(s.pages.style)
	})
}
