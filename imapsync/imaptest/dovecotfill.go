package imaptest

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// Fill delivers n messages to the INBOX as a local delivery agent does (maildir: written
// aside, then renamed), so that they are there almost at once. date becomes their
// INTERNALDATE; flags, where it is not nil, gives each the flags a mail program has set,
// in maildir's letters ("S" \\Seen, "F" \\Flagged, "R" \\Answered). The user MUST have
// logged in once.
func (u *DovecotUser) Fill(n int, date time.Time, message func(i int) []byte, flags func(i int) string) error {
	dir := filepath.Join(u.d.dir, "mail", u.user, "Maildir")
	info, err := os.Stat(filepath.Join(dir, "new"))
	if err != nil {
		return fmt.Errorf("fill: %w", err)
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Errorf("fill: %s has no owner", dir)
	}
	names := make([]string, n)
	for i := range n {
		names[i] = fmt.Sprintf("%d.M%08d.%d", time.Now().Unix(), i, os.Getpid())
		path := filepath.Join(dir, "tmp", names[i])
		if err := os.WriteFile(path, message(i), 0o600); err != nil {
			return fmt.Errorf("fill: %w", err)
		}
		if err := os.Chown(path, int(owner.Uid), int(owner.Gid)); err != nil {
			return fmt.Errorf("fill: %w", err)
		}
		if err := os.Chtimes(path, date, date); err != nil {
			return fmt.Errorf("fill: %w", err)
		}
	}
	for i, name := range names {
		to := filepath.Join(dir, "new", name)
		if flags != nil {
			to = filepath.Join(dir, "cur", name+":2,"+flags(i))
		}
		if err := os.Rename(filepath.Join(dir, "tmp", name), to); err != nil {
			return fmt.Errorf("fill: %w", err)
		}
	}
	return nil
}
