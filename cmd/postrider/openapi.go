package main

import (
	"context"
	"encoding/json"
	"flag"
	"net/http"

	"go.yaml.in/yaml/v4"

	"github.com/redis/go-redis/v9"

	"github.com/postrider/postrider/api"
	"github.com/postrider/postrider/store"
	"github.com/postrider/postrider/store/secret"
)

// runOpenAPI prints what /openapi.json serves. It asks nobody: the document is made of
// the types.
func runOpenAPI(_ context.Context, p *program, fs *flag.FlagSet) error {
	asYAML := fs.Bool("yaml", false, "as YAML")
	if err := parse(fs, p.args, 0); err != nil {
		return err
	}
	doc, err := openAPIDocument()
	if err != nil {
		return err
	}
	if *asYAML {
		var v any
		if err := json.Unmarshal(doc, &v); err != nil {
			return err
		}
		if doc, err = yaml.Marshal(v); err != nil {
			return err
		}
	}
	_, err = p.stdout.Write(doc)
	return err
}

func openAPIDocument() ([]byte, error) {
	ring, err := secret.NewKeyring(make([]byte, secret.KeySize))
	if err != nil {
		return nil, err
	}
	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:0"}) // never asked
	defer discardClose(client)
	st := store.New(store.Options{Client: client, Secrets: ring})
	s, err := api.New(api.Options{Store: st, Kicker: st, Metrics: http.NotFoundHandler(), Version: version})
	if err != nil {
		return nil, err
	}
	return s.OpenAPI(), nil
}
