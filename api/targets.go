package api

import (
	"net/url"
	"strconv"

	"github.com/postrider/postrider/store/secret"
)

// checkTarget refuses a webhook URL that could not be called.
func (s *Server) checkTarget(location, target string) error {
	if masked(secret.New(target)) {
		return maskedAt(location)
	}
	u, err := url.Parse(target)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return invalid(location, "Invalid", "must be an http or https URL")
	}
	if s.o.CheckTarget == nil {
		return nil
	}
	if err := s.o.CheckTarget(target); err != nil {
		return refused(TargetNotAllowed, Fault{location, "NotAllowed", err.Error()})
	}
	return nil
}

// checkHeaders refuses webhook headers that could not be sent.
func (s *Server) checkHeaders(location string, in []headerIn) error {
	headers := headersOf(in)
	for i, h := range headers {
		if masked(h.Value) {
			return maskedAt(location + "[" + strconv.Itoa(i) + "].value")
		}
	}
	if s.o.CheckHeaders == nil || len(headers) == 0 {
		return nil
	}
	if err := s.o.CheckHeaders(headers); err != nil {
		return invalid(location, "NotAllowed", "%s", err.Error())
	}
	return nil
}
