package store

import (
	"slices"
	"unique"
)

// shared is one copy of a text that thousands of accounts have in common: names of folders,
// hosts, capabilities, certificates. Each of them is read from Redis, and kept while it is
// watched.
func shared(s string) string { return unique.Make(s).Value() }

func shareAll(all []string) {
	for i, s := range all {
		all[i] = shared(s)
	}
}

func (f *Folder) share() {
	for _, s := range []*string{&f.Raw, &f.Path, &f.Delimiter, &f.SpecialUse, &f.SpecialUseSource, &f.Watched} {
		*s = shared(*s)
	}
	f.Attrs = slices.Clone(f.Attrs) // decoded, it has room for more
	shareAll(f.Attrs)
}

func (s *Server) share() {
	s.Host, s.TLS.CA = shared(s.Host), shared(s.TLS.CA)
}

func (st *Status) share() {
	st.State, st.Sync.Phase = shared(st.State), shared(st.Sync.Phase)
	shareAll(st.Capabilities)
	shareAll(st.Plan)
}
