package events

// Type is the name of an event. The list is closed: a name that is not here is
// no event of ours. Names are never renamed or reused.
type Type string

// The events there are. What each proves, and what not, stands at its payload.
const (
	MessageNewType     Type = "messageNew"
	MessageUpdatedType Type = "messageUpdated"
	MessageDeletedType Type = "messageDeleted"
	MessageMovedType   Type = "messageMoved"
	MessageMissingType Type = "messageMissing"

	MessageQueuedType        Type = "messageQueued"
	MessageSentType          Type = "messageSent"
	MessageDeliveryErrorType Type = "messageDeliveryError"
	MessageFailedType        Type = "messageFailed"
	MessageHeldType          Type = "messageHeld"

	MailboxNewType       Type = "mailboxNew"
	MailboxDeletedType   Type = "mailboxDeleted"
	MailboxRenamedType   Type = "mailboxRenamed"
	MailboxResetType     Type = "mailboxReset"
	MailboxStalledType   Type = "mailboxStalled"
	MailboxRecoveredType Type = "mailboxRecovered"

	AccountAddedType          Type = "accountAdded"
	AccountInitializedType    Type = "accountInitialized"
	AccountDeletedType        Type = "accountDeleted"
	AccountPausedType         Type = "accountPaused"
	AccountResumedType        Type = "accountResumed"
	AccountStateLostType      Type = "accountStateLost"
	AccountStalledType        Type = "accountStalled"
	AccountRecoveredType      Type = "accountRecovered"
	AuthenticationSuccessType Type = "authenticationSuccess"
	AuthenticationErrorType   Type = "authenticationError"
	ConnectErrorType          Type = "connectError"

	SendLimitApproachingType Type = "sendLimitApproaching"
	SendLimitExceededType    Type = "sendLimitExceeded"

	WebhookFailingType     Type = "webhookFailing"
	WebhookPausedType      Type = "webhookPaused"
	WebhookResumedType     Type = "webhookResumed"
	WebhookAuthFailingType Type = "webhookAuthFailing"
	WebhookRecoveredType   Type = "webhookRecovered"
	WebhookExhaustedType   Type = "webhookExhausted"
	WebhookDroppedType     Type = "webhookDropped"
)
