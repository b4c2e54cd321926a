package api

// trouble explains what an account's lastError points at by docs.
type trouble struct {
	Anchor, Title, Help string
}

// errorDocs is where an anchor of an account's error leads.
func errorDocs(anchor string) string {
	if anchor == "" {
		return ""
	}
	return "/docs/errors#" + anchor
}

// troubles are the anchors that the engine gives to errors of accounts; a test compares
// them.
var troubles = []trouble{
	{"credentials", "The server refuses user or password", "Check both at the provider's own sign-in page, then send them by PUT /v1/account/{account}; the account connects at once. Until then it is tried again ever more rarely, and after authFailingDays it is paused."},
	{"app-password", "The provider wants an app password", "With two-step verification many providers refuse the ordinary password over IMAP. Create an app password in the account's security settings and store that one."},
	{"oauth", "The access token is not accepted", "It has expired, was revoked, or lacks the provider's scope for IMAP. Get a new one and store it as imap.auth.accessToken."},
	{"oauth-required", "The provider takes no passwords", "Basic authentication is switched off for the mailbox or for everybody. Store an OAuth 2.0 access token as imap.auth.accessToken instead of a password."},
	{"not-connected", "Signed in, and the mailbox does not open", "The credentials are right and the mailbox behind them is not usable: it has no licence, IMAP is off for it, the token is of another user, or the scope is missing."},
	{"imap-off", "IMAP is switched off", "Switch it on in the mailbox's settings, or ask its administrator to. Then PUT /v1/account/{account}/reconnect."},
	{"blocked", "The mailbox is blocked", "The provider or an administrator has locked it, or takes this sign-in for unsafe. Only they can open it."},
	{"browser-login", "The provider wants a sign-in with a browser", "Sign in at the provider's web page once and confirm what it asks. Then PUT /v1/account/{account}/reconnect."},
	{"plaintext", "No password without TLS", "The server takes passwords on encrypted connections only. Use secure: true with port 993, or secure: false (STARTTLS) with port 143, and not plaintext."},
	{"throttled", "The server slows us down", "Too many connections or commands in its eyes, perhaps of other programs. It is tried again at until; nothing is lost."},
	{"network", "The server cannot be reached", "Name, port, firewall, or a server that is down. It is tried again at nextTry, at most ten minutes apart; what arrives meanwhile is found then."},
	{"tls", "The server's certificate is not believed", "It has expired, names another host, or its issuer is unknown here. Mend it there, or name the issuer by imap.tls.ca, the key by imap.tls.pin, the name by imap.tls.serverName."},
	{"egress", "The address is not allowed", "This installation may not connect to where the host name leads. Its operator decides that by mail.egress."},
	{"configuration", "The account's settings do not fit", "Something needed is missing or is not allowed here, like plaintext without mail.allowPlaintext. lastError says what."},
}
