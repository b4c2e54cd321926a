package imapsync

// replyRule maps a server's reply to a fault. All conditions that are set must hold;
// the first rule that fits wins.
type replyRule struct {
	code  string // response code
	text  string // part of the text, lower case
	login bool   // only as the answer to a login
	bye   bool   // only as a BYE in a session that worked: a planned end

	kind, class, action, docs string
}

// Sentences for users.
const (
	actionCredentials = "Check the user name and the password."
	actionAppPassword = "The provider wants an app password here: create one and store it as this account's password."
	actionToken       = "Ask the owner of the mailbox to give access again: the token is not accepted."
	actionBrowser     = "The provider wants a sign-in with a browser first: sign in there, then reconnect."
	actionIMAPOff     = "IMAP is switched off for this mailbox: switch it on in the provider's settings."
	actionBasicAuth   = "The provider takes no passwords over IMAP any more: connect the account by OAuth."
	actionNoPlain     = "The server takes passwords over TLS only: use port 993 with secure, or STARTTLS."
	actionAdmin       = "The mailbox is blocked: ask its administrator or provider."
	actionNotOpened   = "The mailbox cannot be opened: check that the user owns it, that IMAP is on, and that the token has the IMAP scope."
	actionThrottled   = "The server asks us to slow down; we wait and try again."
	actionPort        = "Nothing speaks IMAP there: check host, port and secure."
	actionReach       = "The mail server cannot be reached: check host and port, and that it is up."
)

// configActions are for what we refuse ourselves, by code.
var configActions = map[string]string{
	codeHostMissing: "Give host and port of the mail server.",
	codePlaintext:   "This service does not connect without TLS; its operator can allow it.",
	codeInsecureTLS: "This service does not connect with unchecked certificates; its operator can allow it.",
	codeTLSSettings: "Check the tls settings of the account.",
	codeCredentials: "Give the user and a password or an access token.",
	codeDisabled:    actionNoPlain,
	codeNoMechanism: "The server takes no access tokens: give a password.",
}

// replyRules: what servers really say. Sources are the providers' documents and public
// threads; sync.md §5 and §6.
var replyRules = []replyRule{
	// Planned ends.
	{bye: true, text: "session expired", kind: FaultServerDown, class: "network"},
	{bye: true, text: "accesstokenexpired", kind: FaultServerDown, class: "network"},
	{bye: true, text: "autologout", kind: FaultServerDown, class: "network"},
	{bye: true, text: "auto-logout", kind: FaultServerDown, class: "network"},
	{bye: true, text: "for inactivity", kind: FaultServerDown, class: "network"},
	{bye: true, text: "idle for too long", kind: FaultServerDown, class: "network"},
	{bye: true, text: "idle too long", kind: FaultServerDown, class: "network"},
	{bye: true, text: "timeout", kind: FaultServerDown, class: "network"},
	{bye: true, text: "shutting down", kind: FaultServerDown, class: "network"},
	{bye: true, text: "shutdown", kind: FaultServerDown, class: "network"},
	{bye: true, text: "going down", kind: FaultServerDown, class: "network"},
	{bye: true, text: "restart", kind: FaultServerDown, class: "network"},

	// Throttling, wherever it is said.
	{code: "THROTTLED", kind: FaultThrottled},
	{code: "OVERQUOTA", kind: FaultThrottled},
	{code: "LIMIT", kind: FaultThrottled},
	{text: "request is throttled", kind: FaultThrottled},
	{text: "too many simultaneous", kind: FaultThrottled},
	{text: "too many connections", kind: FaultThrottled},
	{text: "too many concurrent", kind: FaultThrottled},
	{text: "maximum number of connections", kind: FaultThrottled},
	{text: "too many login", kind: FaultThrottled},
	{text: "too many failed", kind: FaultThrottled},
	{text: "too many invalid", kind: FaultThrottled},
	{text: "rate limit", kind: FaultThrottled},
	{text: "bandwidth limit", kind: FaultThrottled},
	{text: "unusual activity", kind: FaultThrottled},
	{text: "try again in a few", login: true, kind: FaultThrottled},

	// Refusals that no other password heals.
	{text: "server unavailable. 15", kind: FaultConfig, class: "blocked", action: actionBasicAuth, docs: "oauth-required"},
	{text: "basic authentication is disabled", kind: FaultConfig, class: "blocked", action: actionBasicAuth, docs: "oauth-required"},
	{text: "basicauthblocked", kind: FaultConfig, class: "blocked", action: actionBasicAuth, docs: "oauth-required"},
	{text: "authenticated but not connected", kind: FaultConfig, class: "blocked", action: actionNotOpened, docs: "not-connected"},
	{text: "not enabled for imap", kind: FaultConfig, class: "blocked", action: actionIMAPOff, docs: "imap-off"},
	{text: "imap access is disabled", kind: FaultConfig, class: "blocked", action: actionIMAPOff, docs: "imap-off"},
	{text: "imap is disabled for", kind: FaultConfig, class: "blocked", action: actionIMAPOff, docs: "imap-off"},
	{text: "imap disabled", kind: FaultConfig, class: "blocked", action: actionIMAPOff, docs: "imap-off"},
	{text: "enable imap", kind: FaultConfig, class: "blocked", action: actionIMAPOff, docs: "imap-off"},
	{text: "imap service is not", kind: FaultConfig, class: "blocked", action: actionIMAPOff, docs: "imap-off"},
	{text: "imap access not", kind: FaultConfig, class: "blocked", action: actionIMAPOff, docs: "imap-off"},
	{text: "unsafe login", kind: FaultConfig, class: "blocked", action: actionAdmin, docs: "blocked"},
	{code: "PRIVACYREQUIRED", kind: FaultConfig, class: "blocked", action: actionNoPlain, docs: "plaintext"},
	{text: "plaintext authentication disallowed", kind: FaultConfig, class: "blocked", action: actionNoPlain, docs: "plaintext"},
	{code: "CONTACTADMIN", kind: FaultConfig, class: "blocked", action: actionAdmin, docs: "blocked"},
	{text: "account is blocked", login: true, kind: FaultConfig, class: "blocked", action: actionAdmin, docs: "blocked"},
	{text: "account is locked", login: true, kind: FaultConfig, class: "blocked", action: actionAdmin, docs: "blocked"},
	{text: "account has been disabled", login: true, kind: FaultConfig, class: "blocked", action: actionAdmin, docs: "blocked"},
	{text: "account disabled", login: true, kind: FaultConfig, class: "blocked", action: actionAdmin, docs: "blocked"},

	// Credentials, in the order from particular to general.
	{text: "application-specific password", kind: FaultAuthDead, class: "credentials", action: actionAppPassword, docs: "app-password"},
	{text: "app password", login: true, kind: FaultAuthDead, class: "credentials", action: actionAppPassword, docs: "app-password"},
	{text: "app-specific password", login: true, kind: FaultAuthDead, class: "credentials", action: actionAppPassword, docs: "app-password"},
	{text: "authorization code", login: true, kind: FaultAuthDead, class: "credentials", action: actionAppPassword, docs: "app-password"},
	{code: "WEBALERT", kind: FaultAuthDead, class: "blocked", action: actionBrowser, docs: "browser-login"},
	{text: "web login required", kind: FaultAuthDead, class: "blocked", action: actionBrowser, docs: "browser-login"},
	{text: "log in via your web browser", kind: FaultAuthDead, class: "blocked", action: actionBrowser, docs: "browser-login"},
	{code: "UNAVAILABLE", login: true, kind: FaultServerDown, class: "network"},
	{code: "INUSE", login: true, kind: FaultServerDown, class: "network"},
	{code: "SERVERBUG", login: true, kind: FaultServerDown, class: "network"},
	{code: "AUTHENTICATIONFAILED", kind: FaultAuthDead, class: "credentials", action: actionCredentials, docs: "credentials"},
	{code: "AUTHORIZATIONFAILED", kind: FaultAuthDead, class: "credentials", action: actionCredentials, docs: "credentials"},
	{code: "EXPIRED", kind: FaultAuthDead, class: "credentials", action: "The password has expired: set a new one.", docs: "credentials"},
	{code: "AUTH", login: true, kind: FaultAuthDead, class: "credentials", action: actionCredentials, docs: "credentials"},
	{text: "temporar", login: true, kind: FaultServerDown, class: "network"},
	{text: "try again later", login: true, kind: FaultServerDown, class: "network"},
	{text: "internal error", login: true, kind: FaultServerDown, class: "network"},
	{text: "system error", login: true, kind: FaultServerDown, class: "network"},
	{text: "service unavailable", login: true, kind: FaultServerDown, class: "network"},
	{text: "server unavailable", login: true, kind: FaultServerDown, class: "network"},
	{text: "backend", login: true, kind: FaultServerDown, class: "network"},
	{text: "invalid token", login: true, kind: FaultAuthDead, class: "grant", action: actionToken, docs: "oauth"},
	{text: "invalid sasl", login: true, kind: FaultAuthDead, class: "grant", action: actionToken, docs: "oauth"},
	{text: "token", login: true, kind: FaultAuthDead, class: "grant", action: actionToken, docs: "oauth"},
	{text: "credential", login: true, kind: FaultAuthDead, class: "credentials", action: actionCredentials, docs: "credentials"},
	{text: "password", login: true, kind: FaultAuthDead, class: "credentials", action: actionCredentials, docs: "credentials"},
	{text: "authentication fail", login: true, kind: FaultAuthDead, class: "credentials", action: actionCredentials, docs: "credentials"},
	{text: "authenticate fail", login: true, kind: FaultAuthDead, class: "credentials", action: actionCredentials, docs: "credentials"},
	{text: "authentication unsuccessful", login: true, kind: FaultAuthDead, class: "credentials", action: actionCredentials, docs: "credentials"},
	{text: "login fail", login: true, kind: FaultAuthDead, class: "credentials", action: actionCredentials, docs: "credentials"},
	{text: "logon fail", login: true, kind: FaultAuthDead, class: "credentials", action: actionCredentials, docs: "credentials"},
	{text: "login incorrect", login: true, kind: FaultAuthDead, class: "credentials", action: actionCredentials, docs: "credentials"},
	{text: "login denied", login: true, kind: FaultAuthDead, class: "credentials", action: actionCredentials, docs: "credentials"},
	{text: "login error", login: true, kind: FaultAuthDead, class: "credentials", action: actionCredentials, docs: "credentials"},
	{text: "invalid login", login: true, kind: FaultAuthDead, class: "credentials", action: actionCredentials, docs: "credentials"},
	{text: "invalid user", login: true, kind: FaultAuthDead, class: "credentials", action: actionCredentials, docs: "credentials"},
	{text: "user unknown", login: true, kind: FaultAuthDead, class: "credentials", action: actionCredentials, docs: "credentials"},
	{text: "unknown user", login: true, kind: FaultAuthDead, class: "credentials", action: actionCredentials, docs: "credentials"},
	{text: "no such user", login: true, kind: FaultAuthDead, class: "credentials", action: actionCredentials, docs: "credentials"},
	{text: "user not found", login: true, kind: FaultAuthDead, class: "credentials", action: actionCredentials, docs: "credentials"},
}
