package dispatch

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/postrider/postrider/events"
)

// DeliveryID names one event for one route, whatever the attempt. Replay is the id of a
// replay with new ids, else "".
func DeliveryID(route string, event events.ID, replay string) string {
	return "dlv_" + events.Digest("postrider/delivery/1", route, string(event), replay)
}

const secretPrefix = "whsec_"

// routeKey decodes a secret in the form of Standard Webhooks.
func routeKey(secret string) ([]byte, error) {
	b64, ok := strings.CutPrefix(secret, secretPrefix)
	if !ok {
		return nil, errors.New("secret does not begin with whsec_")
	}
	key, err := base64.StdEncoding.DecodeString(b64)
	if err != nil || len(key) < 24 || len(key) > 64 {
		return nil, errors.New("secret is not whsec_ and base64 of 24 to 64 bytes")
	}
	return key, nil
}

func mac(key []byte, parts ...[]byte) []byte {
	h := hmac.New(sha256.New, key)
	for _, p := range parts {
		h.Write(p)
	}
	return h.Sum(nil)
}

// SignStandard is the header webhook-signature of Standard Webhooks: one signature per
// live secret, the current one first.
func SignStandard(id string, at time.Time, body []byte, secrets ...string) (string, error) {
	head := []byte(id + "." + strconv.FormatInt(at.Unix(), 10) + ".")
	sigs := make([]string, len(secrets))
	for i, s := range secrets {
		key, err := routeKey(s)
		if err != nil {
			return "", fmt.Errorf("sign: %w", err)
		}
		sigs[i] = "v1," + base64.StdEncoding.EncodeToString(mac(key, head, body))
	}
	return strings.Join(sigs, " "), nil
}

// SignService is the header X-EE-Wh-Signature: over the body alone, with the secret of
// the service.
func SignService(body []byte, secret string) string {
	return base64.RawURLEncoding.EncodeToString(mac([]byte(secret), body))
}

// Tolerance is how far a timestamp may be off before a receiver should refuse it.
const Tolerance = 5 * time.Minute

// VerifyStandard checks the headers webhook-id, webhook-timestamp and webhook-signature
// over body as a receiver does. It compares in constant time.
func VerifyStandard(h http.Header, body []byte, secret string, now time.Time) error {
	id, stamp := h.Get("webhook-id"), h.Get("webhook-timestamp")
	sec, err := strconv.ParseInt(stamp, 10, 64)
	if err != nil {
		return fmt.Errorf("webhook-timestamp %q is no number", stamp)
	}
	at := time.Unix(sec, 0)
	if d := now.Sub(at); d > Tolerance || d < -Tolerance {
		return fmt.Errorf("webhook-timestamp is %s off", d)
	}
	want, err := SignStandard(id, at, body, secret)
	if err != nil {
		return err
	}
	for got := range strings.FieldsSeq(h.Get("webhook-signature")) {
		if hmac.Equal([]byte(got), []byte(want)) {
			return nil
		}
	}
	return errors.New("no signature in webhook-signature matches")
}

// VerifyService checks X-EE-Wh-Signature over body. It compares in constant time.
func VerifyService(h http.Header, body []byte, secret string) error {
	if !hmac.Equal([]byte(h.Get("X-EE-Wh-Signature")), []byte(SignService(body, secret))) {
		return errors.New("X-EE-Wh-Signature does not match")
	}
	return nil
}
