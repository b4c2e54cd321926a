package events

// Route names a webhook route in an operational event. Secrets, header values and
// full URLs never stand in these events.
type Route struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

// WebhookFailing is the payload of webhookFailing: after 3, 50, 70 and 90 failures
// in a row.
type WebhookFailing struct {
	Route               Route  `json:"route"`
	ConsecutiveFailures int    `json:"consecutiveFailures"`
	LastStatus          int    `json:"lastStatus,omitempty"`
	LastError           string `json:"lastError,omitempty"`
}

// WebhookPaused is the payload of webhookPaused: the route's events are held.
type WebhookPaused struct {
	Route    Route  `json:"route"`
	Reason   string `json:"reason"` // "failures", "gone", "misconfigured" or "api"
	Failures int    `json:"failures,omitempty"`
}

// WebhookResumed is the payload of webhookResumed.
type WebhookResumed struct {
	Route Route  `json:"route"`
	Mode  string `json:"mode"` // "deliver", "skip" or "since"
	Held  int    `json:"held"`
}

// WebhookAuthFailing is the payload of webhookAuthFailing: 401 or 403, at most once
// per route and hour.
type WebhookAuthFailing struct {
	Route  Route `json:"route"`
	Status int   `json:"status"`
	Count  int   `json:"count"`
}

// WebhookRecovered is the payload of webhookRecovered: a success after four failures
// or more.
type WebhookRecovered struct {
	Route    Route `json:"route"`
	Failures int   `json:"failures"`
	DownFor  int64 `json:"downFor"` // seconds
}

// WebhookExhausted is the payload of webhookExhausted: deliveries were given up, at
// most once per route and hour. The events are still in the journal.
type WebhookExhausted struct {
	Route           Route  `json:"route"`
	DeliveryID      string `json:"deliveryId"`
	DeliveryEventID ID     `json:"deliveryEventId"`
	DeliveryEvent   Type   `json:"deliveryEvent"`
	Attempts        int    `json:"attempts"`
	Count           int    `json:"count"`
}

// WebhookDropped is the payload of webhookDropped: deliveries ended without being
// tried to their end.
type WebhookDropped struct {
	Route  Route  `json:"route"`
	Count  int    `json:"count"`
	Reason string `json:"reason"` // "heldCap", "retention" or "routeDeleted"
}

// EventType implements Payload.
func (WebhookFailing) EventType() Type { return WebhookFailingType }

// EventType implements Payload.
func (WebhookPaused) EventType() Type { return WebhookPausedType }

// EventType implements Payload.
func (WebhookResumed) EventType() Type { return WebhookResumedType }

// EventType implements Payload.
func (WebhookAuthFailing) EventType() Type { return WebhookAuthFailingType }

// EventType implements Payload.
func (WebhookRecovered) EventType() Type { return WebhookRecoveredType }

// EventType implements Payload.
func (WebhookExhausted) EventType() Type { return WebhookExhaustedType }

// EventType implements Payload.
func (WebhookDropped) EventType() Type { return WebhookDroppedType }

func (WebhookFailing) sealed()     {}
func (WebhookPaused) sealed()      {}
func (WebhookResumed) sealed()     {}
func (WebhookAuthFailing) sealed() {}
func (WebhookRecovered) sealed()   {}
func (WebhookExhausted) sealed()   {}
func (WebhookDropped) sealed()     {}
