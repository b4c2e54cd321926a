package imaptest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/postrider/postrider/internal/peertest"
)

// configure writes certificate, users and configuration.
func (d *Dovecot) configure() error {
	uid, gid, name, group, err := mailUser()
	if err != nil {
		return err
	}
	if err := os.Chmod(d.dir, 0o755); err != nil {
		return err
	}
	for _, sub := range []string{"mail", "run", "state"} {
		path := filepath.Join(d.dir, sub)
		if err := os.Mkdir(path, 0o755); err != nil {
			return err
		}
		if sub == "mail" {
			if err := os.Chown(path, uid, gid); err != nil {
				return err
			}
		}
	}
	if d.ca, err = selfSigned(filepath.Join(d.dir, "cert.pem"), filepath.Join(d.dir, "key.pem")); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(d.dir, "users"), nil, 0o644); err != nil {
		return err
	}
	if d.port, err = peertest.FreePort(); err != nil {
		return err
	}
	if d.tls, err = peertest.FreePort(); err != nil {
		return err
	}
	conf := strings.NewReplacer("@DIR@", d.dir, "@PORT@", strconv.Itoa(d.port), "@TLS@", strconv.Itoa(d.tls),
		"@USER@", name, "@GROUP@", group, "@UID@", strconv.Itoa(uid), "@GID@", strconv.Itoa(gid)).Replace(dovecotConf)
	return os.WriteFile(filepath.Join(d.dir, "dovecot.conf"), []byte(conf), 0o644)
}

const dovecotConf = `
base_dir = @DIR@/run
state_dir = @DIR@/state
log_path = @DIR@/dovecot.log
protocols = imap
listen = 127.0.0.1
disable_plaintext_auth = no
ssl = yes
ssl_cert = <@DIR@/cert.pem
ssl_key = <@DIR@/key.pem
default_internal_user = @USER@
default_internal_group = @GROUP@
default_login_user = @USER@
mail_uid = @UID@
mail_gid = @GID@
first_valid_uid = 1
first_valid_gid = 1
mail_location = maildir:@DIR@/mail/%u/Maildir
mail_home = @DIR@/mail/%u
mail_max_userip_connections = 1000
auth_cache_size = 0
auth_failure_delay = 0
imap_idle_notify_interval = 2 mins
passdb {
  driver = passwd-file
  args = scheme=plain username_format=%u @DIR@/users
}
userdb {
  driver = static
  args = uid=@UID@ gid=@GID@ home=@DIR@/mail/%u
}
namespace inbox {
  inbox = yes
  separator = /
  mailbox Sent {
    auto = create
    special_use = \Sent
  }
  mailbox Drafts {
    auto = create
    special_use = \Drafts
  }
  mailbox Junk {
    auto = create
    special_use = \Junk
  }
  mailbox Trash {
    auto = create
    special_use = \Trash
  }
  mailbox Archive {
    auto = create
    special_use = \Archive
  }
}
service imap-login {
  chroot =
  process_limit = 1000
  client_limit = 2000
  service_count = 0
  inet_listener imap {
    port = @PORT@
  }
  inet_listener imaps {
    port = @TLS@
    ssl = yes
  }
}
protocol imap {
  mail_plugins = zlib imap_zlib
}
service imap {
  process_limit = 2000
}
service anvil {
  chroot =
  client_limit = 5000
}
service stats {
  chroot =
}
service auth {
  client_limit = 5000
}
`

// mailUser is who Dovecot's processes run as: nobody when we are root, else we.
func mailUser() (uid, gid int, name, group string, err error) {
	if os.Getuid() != 0 {
		u, err := user.Current()
		if err != nil {
			return 0, 0, "", "", err
		}
		g, err := user.LookupGroupId(u.Gid)
		if err != nil {
			return 0, 0, "", "", err
		}
		return os.Getuid(), os.Getgid(), u.Username, g.Name, nil
	}
	u, err := user.Lookup("nobody")
	if err != nil {
		return 0, 0, "", "", err
	}
	g, err := user.LookupGroupId(u.Gid)
	if err != nil {
		return 0, 0, "", "", err
	}
	uid, err1 := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(u.Gid)
	return uid, gid, "nobody", g.Name, errors.Join(err1, err2)
}

// selfSigned writes a certificate for 127.0.0.1 and localhost and returns its PEM. It
// is valid from the year 2000, so that it is in a bubble's time too.
func selfSigned(certFile, keyFile string) (string, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", err
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "imaptest"},
		NotBefore: time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, IsCA: true, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		return "", err
	}
	kder, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return "", err
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if err := os.WriteFile(certFile, cert, 0o644); err != nil {
		return "", err
	}
	return string(cert), os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: kder}), 0o600)
}
