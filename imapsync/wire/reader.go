package wire

import (
	"bytes"
	"errors"
	"io"
	"math"
	"sync"
)

// Sizes of the read buffer: an idle connection keeps the small one, the first bytes
// of more than it take a medium one, bulk a large one. Those two come from pools.
const (
	smallBuf  = 512
	mediumBuf = 4 << 10
	largeBuf  = 32 << 10
)

var (
	mediumPool = sync.Pool{New: func() any { return new([mediumBuf]byte) }}
	largePool  = sync.Pool{New: func() any { return new([largeBuf]byte) }}
	framePool  = sync.Pool{New: func() any { b := make([]byte, 0, 8<<10); return &b }}
)

// keepFrame is the largest assembling buffer that goes back to the pool.
const keepFrame = 256 << 10

// reader turns bytes into frames. A frame is a line plus, where it ends in {n}, n bytes
// and the next line, and so on. It knows no grammar.
type reader struct {
	lim  *Limits
	fill func([]byte) (int, error) // reads some bytes, within the deadlines

	small  [smallBuf]byte
	medium *[mediumBuf]byte
	large  *[largeBuf]byte
	buf    []byte // one of the three
	r, w   int

	asm     *[]byte // assembled frame, from framePool; nil while none is needed
	lits    []lit
	literal int64 // bytes left of the literal being read
	skipped int64 // bytes skipped since the last good frame
	stretch bool  // buf was filled to its end: take a larger one

	nums numbers // of a SEARCH, ESEARCH or VANISHED, parsed while it streams
	// stream is offered each literal of a data frame: what stands before it, and its
	// bytes. False: keep it in the frame.
	stream func(before []byte, n int64, r io.Reader) bool
}

// lit is where a literal stands in a frame: its `{` or `~{`, and its bytes.
type lit struct{ open, start, end int }

// frame is one response as it came, without its line end. b and lits are valid until
// the next frame is read.
type frame struct {
	b    []byte
	lits []lit
	cut  bool // a line or a literal was longer than is kept
	nums bool // the numbers of the response are in reader.nums, not in b
	size int64
}

func (r *reader) init(lim *Limits, fill func([]byte) (int, error)) {
	r.lim, r.fill = lim, fill
	r.buf = r.small[:]
}

// buffered is how much was read and not consumed.
func (r *reader) buffered() int { return r.w - r.r }

// release gives pooled memory back where nothing is in it.
func (r *reader) release() {
	if r.asm != nil {
		if cap(*r.asm) <= keepFrame {
			*r.asm = (*r.asm)[:0]
			framePool.Put(r.asm)
		}
		r.asm = nil
	}
	r.nums.ranges = nil
	if n := r.buffered(); n <= smallBuf && len(r.buf) > smallBuf {
		copy(r.small[:], r.buf[r.r:r.w])
		r.r, r.w = 0, n
		r.buf = r.small[:]
		r.putBufs()
	}
	if cap(r.lits) > 64 {
		r.lits = nil
	}
	r.stretch = false
}

func (r *reader) putBufs() {
	if r.medium != nil {
		mediumPool.Put(r.medium)
		r.medium = nil
	}
	if r.large != nil {
		largePool.Put(r.large)
		r.large = nil
	}
}

// more reads at least one byte behind what is buffered. Consumed bytes may move.
func (r *reader) more() error {
	if r.r == r.w {
		r.r, r.w = 0, 0
	}
	if r.stretch || r.w == len(r.buf) {
		r.grow()
	}
	n, err := r.fill(r.buf[r.w:])
	r.w += n
	r.stretch = r.w == len(r.buf) && r.large == nil
	if n > 0 {
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

// grow makes room behind what is buffered. The largest buffer is only ever full of a
// line whose bytes have been consumed by then.
func (r *reader) grow() {
	r.stretch = false
	var next []byte
	switch {
	case len(r.buf) == smallBuf:
		r.medium = mediumPool.Get().(*[mediumBuf]byte)
		next = r.medium[:]
	case len(r.buf) == mediumBuf:
		r.large = largePool.Get().(*[largeBuf]byte)
		next = r.large[:]
	default:
		next = r.buf
	}
	r.w = copy(next, r.buf[r.r:r.w])
	r.r = 0
	if len(r.buf) == mediumBuf && r.large != nil {
		mediumPool.Put(r.medium)
		r.medium = nil
	}
	r.buf = next
}

// skip counts bytes nobody will see.
func (r *reader) skip(n int64) error {
	if r.skipped += n; r.skipped > r.lim.Skip {
		return errSkipped
	}
	return nil
}

// next reads one frame. tag is the command's in flight: a line that begins with it is
// never glued to the one before.
func (r *reader) next(tag []byte) (frame, error) {
	var f frame
	// The usual frame is one whole line in the buffer and is not copied.
	if i := bytes.IndexByte(r.buf[r.r:r.w], '\n'); i >= 0 {
		line := trimEnd(r.buf[r.r : r.r+i])
		if len(line) == 0 || line[0] != '*' || !continues(line) {
			r.r += i + 1
			f.b, f.size = line, int64(i+1)
			return f, nil
		}
	}
	if r.asm == nil {
		r.asm = framePool.Get().(*[]byte)
	}
	*r.asm, r.lits = (*r.asm)[:0], r.lits[:0]
	err := r.assemble(&f, tag)
	f.b, f.lits = *r.asm, r.lits
	return f, err
}

// continues says whether a complete line of a data response may go on in the next one:
// it ends in a literal's size, or inside quotes or parentheses.
func continues(line []byte) bool {
	if isStatus(line) {
		return false
	}
	if _, _, ok := literalSize(line); ok {
		return true
	}
	var bal balance
	bal.feed(line)
	return bal.open()
}

func (r *reader) assemble(f *frame, tag []byte) error {
	var bal balance
	data := false
	for lines, glued := 0, 0; ; lines++ {
		begin := len(*r.asm)
		if err := r.line(f, lines == 0); err != nil {
			return err
		}
		if f.nums {
			return nil
		}
		if lines == 0 {
			data = len(*r.asm) > 0 && (*r.asm)[0] == '*' && !isStatus(*r.asm)
		}
		if !data {
			return nil
		}
		line := (*r.asm)[begin:]
		if n, open, ok := literalSize(line); ok && !f.cut {
			if err := r.takeLiteral(f, begin+open, n); err != nil {
				return err
			}
			bal.feed(line[:open])
			bal.quoted = false // no quoted string goes over a literal
			continue
		}
		bal.feed(line)
		if glued += len(line); !bal.open() || lines >= r.lim.GlueLines || glued > r.lim.GlueBytes || r.startsResponse(tag) {
			return nil
		}
		*r.asm = append(*r.asm, '\r', '\n')
	}
}

// line appends the next line, without its end, to the frame.
func (r *reader) line(f *frame, first bool) error {
	begin := len(*r.asm)
	if first {
		// Enough of the beginning to know whether it is a list of numbers.
		for r.buffered() < 32 && bytes.IndexByte(r.buf[r.r:r.w], '\n') < 0 {
			if err := r.more(); err != nil {
				return err
			}
		}
	}
	for {
		chunk := r.buf[r.r:r.w]
		i := bytes.IndexByte(chunk, '\n')
		if first && i < 0 {
			first = false
			if kind := numbersKind(chunk); kind != 0 {
				return r.numbers(f, kind)
			}
		}
		whole := i >= 0
		if whole {
			chunk = chunk[:i+1]
		}
		r.r += len(chunk)
		f.size += int64(len(chunk))
		if room := min(r.lim.Line-(len(*r.asm)-begin), r.lim.Frame-len(*r.asm)); len(chunk) > room {
			f.cut = true
			if err := r.skip(int64(len(chunk) - max(room, 0))); err != nil {
				return err
			}
			chunk = chunk[:max(room, 0)]
		}
		*r.asm = append(*r.asm, chunk...)
		if whole {
			*r.asm = (*r.asm)[:begin+len(trimEnd((*r.asm)[begin:]))]
			return nil
		}
		if err := r.more(); err != nil {
			return err
		}
	}
}

// numbers reads the line of a SEARCH, ESEARCH or VANISHED while it streams.
func (r *reader) numbers(f *frame, kind byte) error {
	f.nums = true
	r.nums.begin(kind)
	*r.asm = append(*r.asm, r.buf[r.r:r.r+min(r.buffered(), 32)]...) // the head, to be known by
	for {
		chunk := r.buf[r.r:r.w]
		i := bytes.IndexByte(chunk, '\n')
		if i >= 0 {
			chunk = chunk[:i]
		}
		r.nums.feed(chunk)
		r.r += len(chunk)
		f.size += int64(len(chunk))
		if r.nums.over {
			if err := r.skip(int64(len(chunk))); err != nil {
				return err
			}
		}
		if i >= 0 {
			r.r++
			r.nums.end()
			return nil
		}
		if err := r.more(); err != nil {
			return err
		}
	}
}

// takeLiteral keeps, streams or skips the n bytes that follow.
func (r *reader) takeLiteral(f *frame, open int, n int64) error {
	r.literal = n
	if r.stream != nil {
		lr := &literalReader{r: r}
		if r.stream((*r.asm)[:open], n, lr) {
			f.size += n
			r.lits = append(r.lits, lit{open, len(*r.asm), len(*r.asm)})
			return r.discard(false)
		}
	}
	start := len(*r.asm)
	keep := min(n, int64(r.lim.Literal), int64(r.lim.Frame-start))
	if keep < n {
		f.cut = true
	}
	for left := max(keep, 0); left > 0; {
		if r.buffered() == 0 {
			if err := r.more(); err != nil {
				return err
			}
		}
		k := int(min(left, int64(r.buffered())))
		*r.asm = append(*r.asm, r.buf[r.r:r.r+k]...)
		r.r += k
		r.literal -= int64(k)
		left -= int64(k)
	}
	r.lits = append(r.lits, lit{open, start, len(*r.asm)})
	f.size += n - r.literal
	return r.discard(true)
}

// discard reads the rest of the literal away.
func (r *reader) discard(counts bool) error {
	for r.literal > 0 {
		if r.buffered() == 0 {
			if err := r.more(); err != nil {
				return err
			}
		}
		k := min(r.literal, int64(r.buffered()))
		r.r += int(k)
		r.literal -= k
		if counts {
			if err := r.skip(k); err != nil {
				return err
			}
		}
	}
	return nil
}

// literalReader hands out the literal being read.
type literalReader struct {
	r   *reader
	err error
}

// Read implements io.Reader.
func (l *literalReader) Read(p []byte) (int, error) {
	r := l.r
	switch {
	case l.err != nil:
		return 0, l.err
	case r.literal == 0:
		return 0, io.EOF
	case len(p) == 0:
		return 0, nil
	}
	if r.buffered() == 0 {
		if l.err = r.more(); l.err != nil {
			if errors.Is(l.err, io.EOF) {
				l.err = io.ErrUnexpectedEOF
			}
			return 0, l.err
		}
	}
	n := int(min(int64(len(p)), r.literal, int64(r.buffered())))
	copy(p, r.buf[r.r:r.r+n])
	r.r += n
	r.literal -= int64(n)
	return n, nil
}

// startsResponse looks whether the next line begins a response of its own. Where it
// cannot be seen (the connection ended), it does.
func (r *reader) startsResponse(tag []byte) bool {
	for {
		b := r.buf[r.r:r.w]
		switch {
		case len(b) == 0:
		case b[0] == '*' || b[0] == '+':
			return true
		case len(b) > len(tag):
			return len(tag) > 0 && bytes.HasPrefix(b, tag) && b[len(tag)] == ' '
		case !bytes.HasPrefix(tag, b):
			return false
		}
		if r.more() != nil {
			return true
		}
	}
}

// balance follows quotes and parentheses over lines, not literals.
type balance struct {
	depth  int
	quoted bool
}

func (b *balance) feed(line []byte) {
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case b.quoted && c == '\\':
			i++
		case c == '"':
			b.quoted = !b.quoted
		case b.quoted:
		case c == '(':
			b.depth++
		case c == ')':
			b.depth--
		}
	}
}

func (b *balance) open() bool { return b.quoted || b.depth > 0 }

// trimEnd drops CR, LF and NULs, with which some servers pad, from the end of a line.
func trimEnd(line []byte) []byte {
	for n := len(line); n > 0; n-- {
		if c := line[n-1]; c != '\r' && c != '\n' && c != 0 {
			return line[:n]
		}
	}
	return line[:0]
}

// isStatus says whether an untagged line is a status response, whose text is free.
func isStatus(line []byte) bool {
	word, _ := cutWord(skipSpace(line[1:]))
	switch len(word) {
	case 2:
		return foldEqual(word, "OK") || foldEqual(word, "NO")
	case 3:
		return foldEqual(word, "BAD") || foldEqual(word, "BYE")
	case 7:
		return foldEqual(word, "PREAUTH")
	}
	return false
}

// literalSize reads n of a line that ends in {n}, {n+} or ~{n}, and where that stands.
// A number beyond 63 bits is the largest one.
func literalSize(line []byte) (n int64, open int, ok bool) {
	i := len(line) - 1
	if i < 2 || line[i] != '}' {
		return 0, 0, false
	}
	i--
	if line[i] == '+' {
		i--
	}
	end := i
	for i >= 0 && line[i] >= '0' && line[i] <= '9' {
		i--
	}
	if i < 0 || i == end || line[i] != '{' {
		return 0, 0, false
	}
	for _, c := range line[i+1 : end+1] {
		if n > (math.MaxInt64-9)/10 {
			n = math.MaxInt64
			break
		}
		n = n*10 + int64(c-'0')
	}
	if i > 0 && line[i-1] == '~' {
		i--
	}
	return n, i, true
}
