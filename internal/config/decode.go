package config

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kong"
)

// decoders replace kong's own where those are lax (a bare 5 as five nanoseconds, 010 as eight) or name Go types in
// their errors. Every error is the end of a sentence that begins with the name of the setting.
func decoders() []kong.Option {
	return []kong.Option{
		kong.TypeMapper(reflect.TypeFor[time.Duration](), decoder(time.ParseDuration, "a duration such as 500ms, 15s or 1h30m")),
		kong.TypeMapper(reflect.TypeFor[netip.Prefix](), decoder(parseNetwork, "a network such as 10.0.0.0/8 or ::1/128")),
		kong.TypeMapper(reflect.TypeFor[Mailbox](), decoder(parseMailbox, "an e-mail address such as operator@example.com")),
		kong.KindMapper(reflect.Int, decoder(strconv.Atoi, "a whole number")),
		kong.KindMapper(reflect.Float64, decoder(parseNumber, "a number")),
		kong.NamedMapper("address", decoder(parseAddress, "an address such as 127.0.0.1:8080 or :8080")),
		kong.NamedMapper("loopback", decoder(parseLoopback, "a loopback address such as 127.0.0.1:6060")),
		kong.NamedMapper("base-url", decoder(parseBaseURL, "a URL such as https://consent.example.com")),
	}
}

// decoder makes a mapper of a parse function. An error that the function wrote for people says why the text was
// refused; any other is replaced by what was expected.
func decoder[T any](parse func(string) (T, error), expected string) kong.Mapper {
	return kong.MapperFunc(func(ctx *kong.DecodeContext, target reflect.Value) error {
		text, err := popText(ctx)
		if err != nil {
			return err
		}
		value, err := parse(text)
		if refused := refusal(""); errors.As(err, &refused) {
			return refused
		}
		if err != nil {
			return fmt.Errorf("must be %s, not %q", expected, text)
		}
		target.Set(reflect.ValueOf(value).Convert(target.Type()))
		return nil
	})
}

// refusal is the reason for which a well-formed value is not taken.
type refusal string

func (r refusal) Error() string { return string(r) }

// popText takes the next value as it was written.
func popText(ctx *kong.DecodeContext) (string, error) {
	token, err := ctx.Scan.PopValue("text")
	if err != nil || token.IsEOL() {
		return "", errors.New("needs a value")
	}
	return token.String(), nil
}

func parseNumber(text string) (float64, error) {
	number, err := strconv.ParseFloat(text, 64)
	if err == nil && (math.IsNaN(number) || math.IsInf(number, 0)) {
		err = strconv.ErrRange
	}
	return number, err
}

func parseNetwork(text string) (netip.Prefix, error) {
	if address, err := netip.ParseAddr(text); err == nil {
		return netip.Prefix{}, refusal(fmt.Sprintf("must be a network: for the single address write %s/%d", address, address.BitLen()))
	}
	network, err := netip.ParsePrefix(text)
	switch {
	case err != nil:
		return netip.Prefix{}, err
	case network.Addr().Is4In6():
		// Addresses are compared in their IPv4 form, so this network would never match.
		return netip.Prefix{}, refusal(fmt.Sprintf("must be written as an IPv4 network, not %q", text))
	case network != network.Masked():
		return netip.Prefix{}, refusal(fmt.Sprintf("has bits set behind its length: write %s, not %q", network.Masked(), text))
	}
	return network, nil
}

func parseAddress(text string) (string, error) {
	_, port, err := net.SplitHostPort(text)
	if err != nil {
		return "", err
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return "", err
	}
	return text, nil
}

// parseLoopback takes addresses that nobody outside the machine can reach; a host name could be anywhere.
func parseLoopback(text string) (string, error) {
	address, err := netip.ParseAddrPort(text)
	if err == nil && !address.Addr().IsLoopback() {
		err = errors.New("not a loopback address")
	}
	return text, err
}

// parseBaseURL returns the URL without a slash at its end, so that paths can be put behind it.
func parseBaseURL(text string) (string, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return "", err
	case u.User != nil:
		return "", refusal("must not contain a user name or a password")
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return "", errors.New("not a base URL")
	}
	return strings.TrimRight(u.String(), "/"), nil
}

// check holds a decoded value against the enum, min and max of its flag.
func check(flag *kong.Flag, value reflect.Value) error {
	if !flag.IsSlice() {
		return checkOne(flag, value)
	}
	if flag.HasDefault && value.Len() == 0 {
		return errors.New("needs at least one value")
	}
	for i := range value.Len() {
		if err := checkOne(flag, value.Index(i)); err != nil {
			return err
		}
	}
	return nil
}

func checkOne(flag *kong.Flag, value reflect.Value) error {
	if text := plain(value); flag.Enum != "" && !flag.EnumMap()[text] {
		return fmt.Errorf("must be one of %s, not %q", strings.Join(flag.EnumSlice(), ", "), text)
	}
	if least := flag.Tag.Get("min"); least != "" && compare(value, bound(flag, least, value.Type())) < 0 {
		return fmt.Errorf("must be at least %s, not %s", least, plain(value))
	}
	if most := flag.Tag.Get("max"); most != "" && compare(value, bound(flag, most, value.Type())) > 0 {
		return fmt.Errorf("must be at most %s, not %s", most, plain(value))
	}
	return nil
}

// plain writes a single value as a person would.
func plain(value reflect.Value) string {
	text := fmt.Sprint(value)
	if _, ok := value.Interface().(time.Duration); ok {
		if strings.HasSuffix(text, "m0s") {
			text = strings.TrimSuffix(text, "0s")
		}
		if strings.HasSuffix(text, "h0m") {
			text = strings.TrimSuffix(text, "0m")
		}
	}
	return text
}

// bound decodes a min or max tag as the flag decodes its values. A tag that cannot be decoded is a mistake in this
// program, found by the test that parses every setting.
func bound(flag *kong.Flag, text string, as reflect.Type) reflect.Value {
	holder := reflect.New(as).Elem()
	if flag.IsSlice() {
		holder = reflect.New(reflect.SliceOf(as)).Elem()
	}
	if err := decode(flag, text, holder); err != nil {
		panic(fmt.Sprintf("config: limit %q of --%s: %v", text, flag.Name, err))
	}
	if flag.IsSlice() {
		return holder.Index(0)
	}
	return holder
}

func compare(a, b reflect.Value) int {
	if a.CanFloat() {
		return cmp.Compare(a.Float(), b.Float())
	}
	return cmp.Compare(a.Int(), b.Int())
}

// decode reads the text of a value, of a list its elements separated by commas, into target.
func decode(flag *kong.Flag, text string, target reflect.Value) error {
	scan := kong.Scan().PushTyped(text, kong.FlagValueToken)
	return flag.Mapper.Decode(&kong.DecodeContext{Value: flag.Value, Scan: scan}, target)
}
