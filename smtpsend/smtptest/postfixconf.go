package smtptest

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/postrider/postrider/internal/peertest"
)

// configure lays out directories, certificate and configuration, and opens the socket
// that knows the users.
func (p *Postfix) configure(o PostfixOptions) error {
	cert, err := NewCertificate()
	if err != nil {
		return err
	}
	p.CA = cert.CA
	who, err := user.Lookup("postfix")
	if err != nil {
		return err
	}
	uid, _ := strconv.Atoi(who.Uid)
	gid, _ := strconv.Atoi(who.Gid)
	if err := os.Chmod(p.dir, 0o755); err != nil {
		return err
	}
	group, err := user.LookupGroup("postdrop")
	if err != nil {
		return err
	}
	drop, _ := strconv.Atoi(group.Gid)
	// What "postfix check" would make, in three seconds.
	for _, d := range []struct {
		mode     os.FileMode
		uid, gid int
		names    string
	}{
		{0o755, 0, 0, "etc auth queue queue/pid"},
		{0o700, uid, gid, "data mail"},
		{0o700, uid, 0, "queue/active queue/bounce queue/corrupt queue/defer queue/deferred queue/flush queue/hold queue/incoming queue/private queue/saved queue/trace"},
		{0o730, uid, drop, "queue/maildrop"},
		{0o710, uid, drop, "queue/public"},
	} {
		for name := range strings.FieldsSeq(d.names) {
			path := filepath.Join(p.dir, name)
			if err := errors.Join(os.Mkdir(path, d.mode), os.Chmod(path, d.mode), os.Chown(path, d.uid, d.gid)); err != nil {
				return err
			}
		}
	}
	socket := filepath.Join(p.dir, "auth/socket")
	if p.auth, err = keep(socket, o.Users); err != nil {
		return err
	}
	if err := os.Chmod(socket, 0o777); err != nil {
		return err
	}
	for _, port := range []*int{&p.Port, &p.TLSPort} {
		if *port, err = peertest.FreePort(); err != nil {
			return err
		}
	}
	fill := strings.NewReplacer("@DIR@", p.dir, "@HOST@", p.Hostname, "@UID@", who.Uid, "@GID@", who.Gid,
		"@PORT@", strconv.Itoa(p.Port), "@TLS@", strconv.Itoa(p.TLSPort))
	for name, text := range map[string]string{
		"etc/main.cf":   fill.Replace(postfixMain) + strings.Join(o.Main, "\n") + "\n",
		"etc/master.cf": fill.Replace(postfixMaster),
		"cert.pem":      cert.Key + cert.CA,
	} {
		if err := os.WriteFile(filepath.Join(p.dir, name), []byte(text), 0o644); err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
	}
	return nil
}

// All mail is for one mailbox, whatever its domain; nothing leaves.
const postfixMain = `
compatibility_level = 3.6
queue_directory = @DIR@/queue
data_directory = @DIR@/data
maillog_file = @DIR@/log
maillog_file_prefixes = /tmp
myhostname = @HOST@
mydestination =
mynetworks =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
alias_maps =
alias_database =
local_recipient_maps =
default_transport = virtual
virtual_transport = virtual
virtual_mailbox_base = @DIR@/mail
virtual_mailbox_domains = static:ALL
virtual_mailbox_maps = static:box/
virtual_uid_maps = static:@UID@
virtual_gid_maps = static:@GID@
virtual_minimum_uid = 1
virtual_mailbox_limit = 0
message_size_limit = 67108864
local_header_rewrite_clients =
smtputf8_enable = yes
smtpd_tls_security_level = may
smtpd_tls_chain_files = @DIR@/cert.pem
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = @DIR@/auth/socket
smtpd_sasl_security_options = noanonymous
smtpd_relay_restrictions = permit_sasl_authenticated, reject
smtpd_recipient_restrictions = permit_sasl_authenticated, reject
smtpd_reject_unlisted_recipient = no
smtpd_peername_lookup = no
smtpd_discard_ehlo_keywords = chunking
smtpd_client_connection_rate_limit = 0
bounce_queue_lifetime = 0
maximal_queue_lifetime = 0
`

const postfixMaster = `
127.0.0.1:@PORT@ inet n - n - - smtpd
127.0.0.1:@TLS@ inet n - n - - smtpd
  -o smtpd_tls_wrappermode=yes
  -o smtpd_sasl_mechanism_filter=login
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
error unix - - n - - error
retry unix - - n - - error
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
showq unix n - n - - showq
postlog unix-dgram n - n - 1 postlogd
`
