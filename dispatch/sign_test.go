package dispatch

import (
	"net/http"
	"testing"
	"time"
)

// The vectors of the signatures' definition, which were made and checked with three other
// implementations.
const (
	secret1     = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
	secret2     = "whsec_ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8="
	service     = "correct horse battery staple"
	vectorEvent = "evt_erxaxk2nrrq3jcwqtfalueygna"
	vectorBody  = `{"serviceUrl":null,"account":"support","date":"2026-11-22T08:15:02.417Z","path":"INBOX","event":"messageNew","eventId":"evt_erxaxk2nrrq3jcwqtfalueygna","seq":1207,"data":{"id":"AAAAAQAAEmc","subject":"Grüße ✉"}}`
)

var vectorTime = time.Unix(1795335302, 0)

func TestDeliveryID(t *testing.T) {
	for _, tt := range []struct{ route, replay, want string }{
		{"whr_crm", "", "dlv_3ketpmdpm5jf455vvceu2bllt4"},
		{"default", "", "dlv_5ugl2toswuj6biqik23lwcxgxm"},
		{"account:support", "", "dlv_qoei4xom3fmads6tenclgh5vna"},
		{"whr_crm", "rpl_1", "dlv_hbinxs45xmqofpsczwcohxtd2m"},
	} {
		if got := DeliveryID(tt.route, vectorEvent, tt.replay); got != tt.want {
			t.Errorf("%s %s: got %s, want %s", tt.route, tt.replay, got, tt.want)
		}
	}
}

func TestSign(t *testing.T) {
	if len(vectorBody) != 215 {
		t.Fatalf("body has %d bytes", len(vectorBody))
	}
	const id = "dlv_3ketpmdpm5jf455vvceu2bllt4"
	form := "body=a%2Bb+c%26d&cc=&dateReceived=1795335302417"
	for _, tt := range []struct {
		name, body, want string
		secrets          []string
	}{
		{"one secret", vectorBody, "v1,BSATU9OCHZNCOMgGGoMhrh10F2UWmy4d3Y4bbRUFgrc=", []string{secret1}},
		{"rotated", vectorBody, "v1,UQvdty6AA/bvvOdVbANb9nM7OcUpPf6GGu+Bfv/g2wQ= v1,BSATU9OCHZNCOMgGGoMhrh10F2UWmy4d3Y4bbRUFgrc=", []string{secret2, secret1}},
		{"form", form, "v1,r1cWZScP5qqsKjk6i7TcEnC4xTo3GPNBI2/FZustUK8=", []string{secret1}},
	} {
		if got, err := SignStandard(id, vectorTime, []byte(tt.body), tt.secrets...); err != nil || got != tt.want {
			t.Errorf("%s: got %s, %v; want %s", tt.name, got, err, tt.want)
		}
	}
	if got := SignService([]byte(vectorBody), service); got != "lKYbNBfyFCsfDsAInryDnvetxrmu1xMQ7lTZnQDu2E0" {
		t.Errorf("service: got %s", got)
	}
	for _, bad := range []string{"", "whsec_", "whsec_!!!", "whsec_c2hvcnQ=", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="} {
		if _, err := SignStandard(id, vectorTime, nil, bad); err == nil {
			t.Errorf("secret %q was accepted", bad)
		}
	}
}

func TestVerify(t *testing.T) {
	sig, err := SignStandard("dlv_x", vectorTime, []byte(vectorBody), secret2, secret1)
	if err != nil {
		t.Fatal(err)
	}
	good := func() http.Header {
		h := http.Header{}
		h.Set("webhook-id", "dlv_x")
		h.Set("webhook-timestamp", "1795335302")
		h.Set("webhook-signature", sig)
		h.Set("X-EE-Wh-Signature", SignService([]byte(vectorBody), service))
		return h
	}
	for _, s := range []string{secret1, secret2} {
		if err := VerifyStandard(good(), []byte(vectorBody), s, vectorTime.Add(4*time.Minute)); err != nil {
			t.Error(err)
		}
	}
	if err := VerifyService(good(), []byte(vectorBody), service); err != nil {
		t.Error(err)
	}
	for name, tt := range map[string]struct {
		change func(http.Header)
		body   string
		now    time.Time
	}{
		"other body":   {func(http.Header) {}, vectorBody + " ", vectorTime},
		"other id":     {func(h http.Header) { h.Set("webhook-id", "dlv_y") }, vectorBody, vectorTime},
		"late":         {func(http.Header) {}, vectorBody, vectorTime.Add(6 * time.Minute)},
		"early":        {func(http.Header) {}, vectorBody, vectorTime.Add(-6 * time.Minute)},
		"no timestamp": {func(h http.Header) { h.Del("webhook-timestamp") }, vectorBody, vectorTime},
		"no signature": {func(h http.Header) { h.Del("webhook-signature") }, vectorBody, vectorTime},
	} {
		h := good()
		tt.change(h)
		if VerifyStandard(h, []byte(tt.body), secret1, tt.now) == nil {
			t.Errorf("%s was accepted", name)
		}
	}
	if VerifyService(good(), []byte(vectorBody), "wrong") == nil {
		t.Error("a wrong service secret was accepted")
	}
}
