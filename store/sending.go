package store

import (
	"encoding/json"
	"errors"
	"strings"
	"time"

	"golang.org/x/text/language"
)

// CheckEHLOName says what is wrong with a name to greet a submission server with; ""
// is no name, and fine. localhost says nothing of who we are, and many servers refuse it.
func CheckEHLOName(name string) error {
	lower := strings.ToLower(name)
	switch {
	case len(name) > 255:
		return errors.New("must have at most 255 characters")
	case lower == "localhost" || strings.HasSuffix(lower, ".localhost") || strings.HasPrefix(lower, "localhost."):
		return errors.New("must not be localhost")
	case strings.ContainsFunc(lower, func(r rune) bool { return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyz0123456789-.[]:", r) }):
		return errors.New("must be a host name, or an address literal like [192.0.2.1]")
	}
	return nil
}

// CheckLocale says what is wrong with a language tag (BCP 47); "" is fine.
func CheckLocale(tag string) error {
	if _, err := language.Parse(tag); tag != "" && err != nil {
		return errors.New("must be a language tag like en or pt-BR")
	}
	return nil
}

// CheckTimezone says what is wrong with the name of a time zone; "" is fine.
func CheckTimezone(name string) error {
	if _, err := time.LoadLocation(name); err != nil || name == "Local" {
		return errors.New("must be the name of a time zone, like Europe/Berlin")
	}
	return nil
}

// sendingKeys are the settings about sending.
func sendingKeys(keys map[string]setting) {
	keys["deliveryAttempts"] = number(0, 50, func(s *Settings) *int { return &s.DeliveryAttempts })
	keys["sendLimitWarnAt"] = number(1, 100, func(s *Settings) *int { return &s.SendLimitWarnAt })
	keys["sendLogDays"] = number(1, 3650, func(s *Settings) *int { return &s.SendLogDays })
	keys["smtpEhloName"] = checked(CheckEHLOName, func(s *Settings) *string { return &s.SMTPEHLOName })
	keys["locale"] = checked(CheckLocale, func(s *Settings) *string { return &s.Locale })
	keys["timezone"] = checked(CheckTimezone, func(s *Settings) *string { return &s.Timezone })
}

// checked is a setting that is a text, "" by default.
func checked(check func(string) error, at func(*Settings) *string) setting {
	return setting{read: func(s *Settings, b json.RawMessage) error {
		var v string // of null
		if err := strict(b, &v); err != nil {
			return err
		}
		if err := check(v); err != nil {
			return err
		}
		*at(s) = v
		return nil
	}, show: func(s Settings) any { return *at(&s) }}
}
