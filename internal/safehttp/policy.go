package safehttp

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"code.dny.dev/ssrf"
	"golang.org/x/net/idna"
)

// Policy says which addresses may be reached: public ones over https, and those inside AllowNets over http and https.
// The zero Policy allows no network.
type Policy struct {
	// AllowNets are the networks the operator allows although they are loopback, private or otherwise special. A
	// NAT64 gateway (64:ff9b::/96) listed here is only a way: the IPv4 address behind it is judged as well.
	AllowNets []netip.Prefix
}

const maxURL = 2048

var (
	// special knows what IANA registered as anything but public. Azure's host agent, which hands out secrets of the
	// virtual machine, hides behind an address that looks public.
	special = ssrf.New(ssrf.WithDeniedV4Prefixes(netip.MustParsePrefix("168.63.129.16/32")))
	nat64   = ssrf.IPv6NAT64Prefix
)

var (
	errURLTooLong   = fmt.Errorf("the URL is longer than %d characters: shorten it", maxURL)
	errURLSyntax    = errors.New("the URL cannot be read: write it like https://example.com/webhook, without spaces or backslashes")
	errURLScheme    = errors.New("the URL must begin with https://")
	errURLUser      = errors.New("the URL must not carry a user name or password: remove what stands before the @")
	errURLFragment  = errors.New("the URL must not have a fragment: remove the # and what follows it")
	errURLHost      = errors.New("the URL has no valid host name: write it like https://example.com/webhook")
	errURLPort      = errors.New("the port of the URL must be a number from 1 to 65535")
	errURLZone      = errors.New("the address must not name a zone: remove the % and what follows it")
	errURLNumber    = errors.New("write an IPv4 address as four decimal numbers without leading zeros, like 198.51.100.7")
	errURLLocalhost = errors.New("localhost is not allowed: use a public host, or let the operator allow 127.0.0.0/8 (--webhook-allow-net)")
	errURLPlain     = errors.New("plain http is only allowed inside networks that the operator allows (--webhook-allow-net): use https")
)

// CheckURL refuses a URL that Post would never reach, as far as the text alone can tell: what a host name resolves to
// is judged when it is dialled. The error is a sentence that may be shown to whoever wrote the URL; of the URL it
// repeats an address at most.
func (p Policy) CheckURL(raw string) error {
	_, err := p.parse(raw)
	return err
}

// parse reads a URL and checks it. The host of the result is in the form in which it is dialled: ASCII, lower case, no
// trailing dot.
func (p Policy) parse(raw string) (*url.URL, error) {
	if len(raw) > maxURL {
		return nil, errURLTooLong
	}
	if strings.ContainsAny(raw, " \\") { // readers disagree on what these mean
		return nil, errURLSyntax
	}
	u, err := url.Parse(raw)
	if err != nil {
		return nil, errURLSyntax // the cause would repeat the URL, and with it a key in the query
	}
	if u.Scheme != "https" && u.Scheme != "http" {
		return nil, errURLScheme
	}
	if u.User != nil {
		return nil, errURLUser
	}
	if strings.Contains(raw, "#") {
		return nil, errURLFragment
	}
	port := u.Port()
	if port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return nil, errURLPort
		}
	}
	host, err := p.checkHost(u)
	if err != nil {
		return nil, err
	}
	switch {
	case port != "":
		u.Host = net.JoinHostPort(host, port)
	case strings.Contains(host, ":"):
		u.Host = "[" + host + "]"
	default:
		u.Host = host
	}
	return u, nil
}

// checkHost returns the host of a URL in the form in which it is dialled, unless it is refused.
func (p Policy) checkHost(u *url.URL) (string, error) {
	host := u.Hostname()
	if addr, err := netip.ParseAddr(host); err == nil {
		if addr.Zone() != "" {
			return "", errURLZone
		}
		return addr.String(), p.permit(u.Scheme, addr)
	}
	host, ok := hostName(host)
	if !ok {
		return "", errURLHost
	}
	if addr, err := netip.ParseAddr(host); err == nil { // it was written in other digits, such as ①
		return addr.String(), p.permit(u.Scheme, addr)
	}
	if endsInNumber(host) {
		return "", errURLNumber
	}
	host = strings.TrimSuffix(host, ".")
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		if !p.allows(netip.AddrFrom4([4]byte{127, 0, 0, 1})) && !p.allows(netip.IPv6Loopback()) {
			return "", errURLLocalhost
		}
	}
	if u.Scheme == "http" && len(p.AllowNets) == 0 {
		return "", errURLPlain
	}
	return host, nil
}

// hostName returns a host name in lower-case ASCII, or false if it is none. Underscores pass: no public host has them,
// but services inside an allowed network do.
func hostName(s string) (string, bool) {
	if strings.ContainsFunc(s, func(r rune) bool { return r > 0x7f }) {
		ascii, err := idna.Lookup.ToASCII(s)
		if err != nil {
			return "", false
		}
		s = ascii
	}
	s = strings.ToLower(s)
	name := strings.TrimSuffix(s, ".")
	if len(name) > 253 {
		return "", false
	}
	for label := range strings.SplitSeq(name, ".") {
		if len(label) < 1 || len(label) > 63 || strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return "", false
		}
	}
	return s, true
}

// endsInNumber reports whether other programs would read a host name as an IPv4 address, by the rule of the URL
// Standard: its last label is a decimal, octal or hexadecimal number, as in 2130706433, 0177.1 and 127.0.0.0x1.
func endsInNumber(host string) bool {
	host = strings.TrimSuffix(host, ".")
	last := host[strings.LastIndexByte(host, '.')+1:]
	if hex, ok := strings.CutPrefix(last, "0x"); ok {
		return strings.Trim(hex, "0123456789abcdef") == ""
	}
	return strings.Trim(last, "0123456789") == ""
}

// permit says in an error why addr may not be reached over the scheme. It is the rule for what is saved and for what is
// dialled.
func (p Policy) permit(scheme string, addr netip.Addr) error {
	addr = addr.Unmap()
	if nat64.Contains(addr) && p.allows(addr) {
		b := addr.As16()
		addr = netip.AddrFrom4([4]byte(b[12:]))
	}
	switch {
	case p.allows(addr):
		return nil
	case !addr.IsValid() || special.SafeAddr(addr) != nil:
		return notAllowed(addr)
	case scheme != "https":
		return fmt.Errorf("plain http to %s is not allowed: use https", addr)
	}
	return nil
}

// allows reports whether addr lies in a network the operator allows.
func (p Policy) allows(addr netip.Addr) bool {
	return slices.ContainsFunc(p.AllowNets, func(n netip.Prefix) bool { return n.Contains(addr) })
}

func notAllowed(addr netip.Addr) error {
	return fmt.Errorf("the address %s is not allowed: use a public one, or let the operator allow its network (--webhook-allow-net)", addr)
}
