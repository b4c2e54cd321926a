package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"path/filepath"
	"strings"
	"time"
)

// apiClient talks to a running server for the commands.
type apiClient struct {
	url, token string
	http       *http.Client
}

// newHTTPClient has connections of its own, which can be closed.
func newHTTPClient() *http.Client {
	return &http.Client{Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true}}
}

// access are the flags by which commands find the server.
type access struct{ url, token, data *string }

func accessFlags(fs *flag.FlagSet) access {
	return access{
		url:   fs.String("url", "", "`URL` of the server (else $POSTRIDER_URL, else what serve left in the data directory)"),
		token: fs.String("token", "", "API `token` (else $POSTRIDER_TOKEN)"),
		data:  fs.String("data", "", "data `directory`"),
	}
}

// dataPath is the data directory for a command that only reads a file there.
func (a access) dataPath(p *program) (string, error) {
	return dataDir(cmp.Or(*a.data, p.getenv("POSTRIDER_DATA_DIR")), p.getenv)
}

func (a access) client(p *program) (*apiClient, error) {
	c := &apiClient{
		url:   cmp.Or(*a.url, p.getenv("POSTRIDER_URL")),
		token: cmp.Or(*a.token, p.getenv("POSTRIDER_TOKEN")),
		http:  newHTTPClient(),
	}
	if c.url == "" || c.token == "" {
		dir, err := a.dataPath(p)
		if err != nil {
			return nil, usageError{err}
		}
		path := filepath.Join(dir, cliFile)
		known, err := readCLI(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil, usagef("which server? There is no %s: start postrider serve, or give --url and --token", path)
		case err != nil:
			return nil, err
		}
		c.url, c.token = cmp.Or(c.url, known.URL), cmp.Or(c.token, known.Token)
	}
	if c.token == "" {
		return nil, usagef("which token? Make one with postrider token create, and give it with --token or $POSTRIDER_TOKEN")
	}
	c.url = strings.TrimRight(c.url, "/")
	return c, nil
}

// apiError is a problem that the server answered with.
type apiError struct {
	Status int    `json:"status"`
	Code   string `json:"code"`
	Detail string `json:"detail"`
	Title  string `json:"title"`
	Errors []struct {
		Location string `json:"location"`
		Message  string `json:"message"`
	} `json:"errors"`
}

func (e *apiError) Error() string {
	var s strings.Builder
	s.WriteString(fmt.Sprintf("the server says %d %s: %s", e.Status, e.Code, cmp.Or(e.Detail, e.Title)))
	for _, d := range e.Errors {
		if d.Location+": "+d.Message == e.Detail {
			continue // it is said
		}
		s.WriteString(fmt.Sprintf("; %s %s", d.Location, d.Message))
	}
	return s.String()
}

// maxAnswer bounds what is read of an answer that is not a stream.
const maxAnswer = 16 << 20

// open sends a request and gives its answer, if that is a good one.
func (c *apiClient) open(ctx context.Context, method, path string, body any, header http.Header) (*http.Response, error) {
	var r io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		r = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.url+path, r)
	if err != nil {
		return nil, usageError{err}
	}
	maps.Copy(req.Header, header)
	req.Header.Set("Authorization", "Bearer "+c.token)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode < 300 {
		return resp, nil
	}
	defer discardClose(resp.Body)
	e := &apiError{}
	b, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10)) // what can be read of a refusal says enough
	_ = json.Unmarshal(b, e)
	e.Status = resp.StatusCode
	return nil, e
}

// call sends a request and decodes its answer.
func (c *apiClient) call(ctx context.Context, method, path string, body, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	resp, err := c.open(ctx, method, path, body, nil)
	if err != nil {
		return err
	}
	defer discardClose(resp.Body)
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil || answer == nil {
		return err
	}
	return json.Unmarshal(b, answer)
}
