package consent

import (
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// PreferenceCentre is a hosted page for citizens.
type PreferenceCentre struct {
	Reference string     `json:"reference"`
	Name      string     `json:"name"`
	Type      CentreType `json:"type"`
	// Slug is the path under which it is found, /c/{slug}, unique on the server. Host is
	// a host name of its own, whose root it is as well.
	Slug     string `json:"slug"`
	Host     string `json:"host,omitempty"`
	Template string `json:"template,omitempty"` // what it asks; a page to request a link asks nothing
	RuleSet  string `json:"ruleSet,omitempty"`
	// Manage names the centre to which a link that was requested here leads; empty means
	// the first one that shows and changes.
	Manage string `json:"manage,omitempty"`
	// Code sends a code of six digits in place of a link.
	Code  bool        `json:"code,omitempty"`
	Brand Brand       `json:"brand,omitzero"`
	Texts CentreTexts `json:"texts,omitzero"`
	Help  *Help       `json:"help,omitempty"`
	// FrameAncestors are the web origins that may show it in a frame.
	FrameAncestors []string `json:"frameAncestors,omitempty"`
	Closed         bool     `json:"closed,omitempty"` // it answers that it is not open
}

// CentreType says what a preference centre is for.
type CentreType string

// The types of preference centre.
const (
	ManageCentre CentreType = "manage"       // shows and changes, with a token
	SignUpCentre CentreType = "sign-up"      // takes new citizens
	LinkCentre   CentreType = "request-link" // sends the link, or the code, to manage
)

// Brand is how a page looks like that of its owner.
type Brand struct {
	Name string `json:"name,omitempty"` // empty: that of the application
	// Logo and LogoDark are PNG files in base64, re-encoded by the server.
	Logo     []byte `json:"logo,omitempty"`
	LogoDark []byte `json:"logoDark,omitempty"`
	// Accent and AccentDark are colours, #rrggbb, for a light and a dark page; each must
	// be readable there.
	Accent     string `json:"accent,omitempty"`
	AccentDark string `json:"accentDark,omitempty"`
}

// CentreTexts are what a page says beside its template; what is left out is said in
// our own words.
type CentreTexts struct {
	Title  Localised `json:"title,omitempty"`
	Intro  Localised `json:"intro,omitempty"`
	Footer Localised `json:"footer,omitempty"`
}

// Help is where a citizen finds a person to ask.
type Help struct {
	Label Localised `json:"label,omitempty"`
	URL   string    `json:"url"` // https or mailto
}

// EmailText is the wording of the mails of one kind; what is left out is said in our
// own words. In a text {application}, {name}, {purposes} and {expires} stand for what
// they name.
type EmailText struct {
	Reference string    `json:"reference"`
	Name      string    `json:"name"`
	Kind      EmailKind `json:"kind"`
	Template  string    `json:"template,omitempty"` // for sign-ups by this template alone
	Subject   Localised `json:"subject,omitempty"`
	Heading   Localised `json:"heading,omitempty"`
	Message   Localised `json:"message,omitempty"`
	Button    Localised `json:"button,omitempty"`
	Reason    Localised `json:"reason,omitempty"` // why the reader got it
}

// slug is a part of a path: small letters, digits and hyphens.
var slug = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)

// colour is a colour of a style sheet in full.
var colour = regexp.MustCompile(`^#[0-9a-fA-F]{6}$`)

// CentreTypes lists the types there are.
var CentreTypes = []CentreType{ManageCentre, SignUpCentre, LinkCentre}

// centres checks what must differ from one preference centre to the next.
func (k *checker) centres(list []PreferenceCentre) {
	slugs, hosts := map[string]int{}, map[string]int{}
	for i, p := range list {
		if first, twice := slugs[p.Slug]; twice && p.Slug != "" {
			// Either of them may be the one that is being edited.
			k.Add(at("preferenceCentres", i)+".slug", "is the same as that of %s", at("preferenceCentres", first))
			k.Add(at("preferenceCentres", first)+".slug", "is the same as that of %s", at("preferenceCentres", i))
		}
		if first, twice := hosts[p.Host]; twice && p.Host != "" {
			k.Add(at("preferenceCentres", i)+".host", "is the same as that of %s", at("preferenceCentres", first))
			k.Add(at("preferenceCentres", first)+".host", "is the same as that of %s", at("preferenceCentres", i))
		}
		slugs[p.Slug], hosts[p.Host] = i, i
	}
}

func (k *checker) centre(place string, p PreferenceCentre) {
	k.name(place, p.Name)
	if !slices.Contains(CentreTypes, p.Type) {
		k.Add(place+".type", "must be one of %s", join(CentreTypes))
	}
	if len(p.Slug) > 60 || !slug.MatchString(p.Slug) {
		k.Add(place+".slug", "must be small letters, digits and hyphens, at most 60")
	}
	if u, err := url.Parse("https://" + p.Host); p.Host != "" && (err != nil || u.Host != p.Host || p.Host != strings.ToLower(p.Host)) {
		k.Add(place+".host", "must be a host name such as preferences.example.com")
	}
	switch {
	case p.Template != "":
		k.knows(place+".template", KindTemplate, p.Template)
	case p.Type == ManageCentre || p.Type == SignUpCentre:
		k.Add(place+".template", "must be given for this type")
	}
	if p.RuleSet != "" {
		k.knows(place+".ruleSet", KindRuleSet, p.RuleSet)
	}
	if p.Manage != "" {
		k.knows(place+".manage", KindCentre, p.Manage)
	}
	k.brand(place+".brand", p.Brand)
	for field, text := range map[string]Localised{"title": p.Texts.Title, "intro": p.Texts.Intro, "footer": p.Texts.Footer} {
		k.optionalText(place+".texts."+field, text)
	}
	if h := p.Help; h != nil {
		k.optionalText(place+".help.label", h.Label)
		if u, err := url.Parse(h.URL); h.URL != "" && (err != nil || u.Scheme != "https" && u.Scheme != "http" && u.Scheme != "mailto") {
			k.Add(place+".help.url", "must be an https or mailto URL")
		}
	}
	for i, origin := range p.FrameAncestors {
		k.origin(at(place+".frameAncestors", i), origin)
	}
}
