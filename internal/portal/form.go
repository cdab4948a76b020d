package portal

import (
	"cmp"
	"slices"

	"github.com/opencpm/opencpm/internal/consent"
)

// part is one card of a form: what is permitted, with its wording, or one question.
type part struct {
	Heading   string
	Hint      string
	Statement []consent.RichText
	Text      []consent.RichText // of a part that only says something

	Channels  []string // the columns of the matrix
	Rows      []row
	Singles   []cell // groups, which are not of one channel, and everything where there is only one
	Interests []interest
	Notes     []note

	Question *question
}

// row is a topic of the matrix: a purpose of one party.
type row struct {
	Title, Party, Text string
	Cells              []cell // one for each column
}

// cell is one thing that can be on or off.
type cell struct {
	Offered bool
	Key     string
	Label   string // what the control is called: topic and channel, or what the template says
	Party   string // whose it is, where that is not the application's first party
	Channel string
	Text    string
	On      bool
	Was     bool   // as it is recorded
	Still   string // said in place of a control that would do nothing: paused, waiting, blocked
	SaysOn  string // what it means, said as it is switched
	SaysOff string
	WordOn  string
	WordOff string
}

// interest is what we do unless the citizen objects.
type interest struct {
	Key, Label, Party, Text string

	Says string // how it stands
	Does string // object, or allow; empty where neither would change anything
}

// note is what cannot be refused.
type note struct{ Label, Text, Why string }

// question is a preference.
type question struct {
	Reference string
	Label     string
	Many      bool
	Choices   []choice
	Was       []string
}

type choice struct {
	Reference, Label string
	Chosen           bool
}

func keyOf(t consent.OptionType, id string) string { return string(t) + ":" + id }

// silent are the things that are paused, each with its end.
type silent map[string]consent.Instant

func silentIn(pauses []consent.Pause) silent {
	list := silent{}
	for _, p := range pauses {
		for _, k := range p.Options {
			list[keyOf(k.Type, k.ID)] = p.Until
		}
	}
	return list
}

// parts lays a form out. Nothing is on that was never given.
func (f frame) parts(form consent.Form, paused silent) []part {
	var list []part
	for _, b := range form.Blocks {
		p := part{Heading: b.Heading}
		switch b.Type {
		case "permissions":
			f.permissions(&p, b, paused)
		case "text":
			p.Text = b.Content
			if len(p.Text) == 0 {
				p.Text = []consent.RichText{{Type: "paragraph", Children: []consent.RichText{{Type: "text", Text: b.Text}}}}
			}
		default:
			p.Question = questionOf(b)
		}
		list = append(list, p)
	}
	return list
}

func (f frame) permissions(p *part, b consent.FormBlock, paused silent) {
	if b.Statement != nil {
		p.Statement = b.Statement.Content
		if len(p.Statement) == 0 && b.Statement.Text != "" {
			p.Statement = []consent.RichText{{Type: "paragraph", Children: []consent.RichText{{Type: "text", Text: b.Statement.Text}}}}
		}
	}
	var asked []consent.FormOption // by a topic and a channel
	for _, o := range b.Options {
		switch {
		case o.Justification == consent.LegitimateInterest:
			p.Interests = append(p.Interests, f.interest(o, paused))
		case o.Justification != consent.Consent:
			p.Notes = append(p.Notes, note{o.Label, o.Description, f.Say(string(o.Justification))})
		case o.Purpose == nil || o.Channel == nil:
			p.Singles = append(p.Singles, f.cell(o, o.Label, paused))
		default:
			asked = append(asked, o)
			if !slices.Contains(p.Channels, o.Channel.Name) {
				p.Channels = append(p.Channels, o.Channel.Name)
			}
		}
	}
	if len(p.Channels) > 1 {
		f.rows(p, asked, paused)
	} else {
		for _, o := range asked {
			c := f.cell(o, o.Label, paused)
			c.Channel, p.Channels = "", nil
			p.Singles = append(p.Singles, c)
		}
	}
	if len(p.Rows)+len(p.Singles) > 0 {
		p.Heading, p.Hint = cmp.Or(p.Heading, f.Say("page.matrixTitle")), f.Say("page.matrixHint")
	}
}

// rows lays the matrix out. A topic with one channel is called what the template calls that.
func (f frame) rows(p *part, asked []consent.FormOption, paused silent) {
	topic := func(o consent.FormOption) string {
		if o.Party == nil {
			return o.Purpose.ID
		}
		return o.Party.ID + "\x00" + o.Purpose.ID
	}
	channels := map[string]int{}
	for _, o := range asked {
		channels[topic(o)]++
	}
	at := map[string]int{}
	for _, o := range asked {
		title, label := o.Purpose.Name, f.name(o)
		if channels[topic(o)] == 1 {
			title, label = o.Label, o.Label
		}
		i, known := at[topic(o)]
		if !known {
			i = len(p.Rows)
			at[topic(o)] = i
			p.Rows = append(p.Rows, row{Title: title, Party: f.partner(o), Cells: make([]cell, len(p.Channels))})
		}
		r := &p.Rows[i]
		r.Text = cmp.Or(r.Text, o.Description)
		r.Cells[slices.Index(p.Channels, o.Channel.Name)] = f.cell(o, label, paused)
	}
}

// partner gives whose an option is, where that is not the application's first party.
func (f frame) partner(o consent.FormOption) string {
	if o.Party == nil || f.centre == nil || len(f.centre.Parties) == 0 || f.centre.Parties[0].ID == o.Party.ID {
		return ""
	}
	return o.Party.Name
}

// name gives what an option is called where it stands alone.
func (f frame) name(o consent.FormOption) string {
	if o.Purpose == nil || o.Channel == nil {
		return o.Label
	}
	return f.named(o.Purpose.Name, o.Channel.Name, f.partner(o))
}

func (f frame) named(purpose, channel, partner string) string {
	if partner != "" {
		channel = f.listed([]string{channel, partner})
	}
	return purpose + ": " + channel
}

// listed joins things as a sentence does.
func (f frame) listed(things []string) string { return f.speaker.List(things) }

// used reports whether what an option is about is done.
func used(o consent.FormOption) bool {
	switch {
	case o.Suppressed:
		return false
	case o.Justification == consent.LegitimateInterest:
		return o.Selected == nil || *o.Selected
	}
	return o.Justification == consent.Consent && o.Selected != nil && *o.Selected && (o.State == nil || *o.State != consent.Pending)
}

func (f frame) interest(o consent.FormOption, paused silent) interest {
	i := interest{Key: keyOf(o.OptionType, o.OptionID), Label: o.Label, Party: f.partner(o), Text: o.Description}
	until, silent := paused[i.Key]
	switch {
	case o.Suppressed:
		i.Says = f.Say("suppressed")
	case used(o):
		i.Says, i.Does = f.Say("legitimate-interest"), "object"
	case silent:
		i.Says = f.Say("page.pausedTitle", "Date", f.Date(until)) + "."
	default:
		i.Says, i.Does = f.Say("objected"), "allow"
	}
	return i
}

func (f frame) cell(o consent.FormOption, label string, paused silent) cell {
	c := cell{Offered: true, Key: keyOf(o.OptionType, o.OptionID), Label: label, Party: f.partner(o), Text: o.Description, On: o.Selected != nil && *o.Selected, WordOn: f.Say("on"), WordOff: f.Say("off")}
	if o.Channel != nil {
		c.Channel = o.Channel.Name
	}
	if o.Card != nil {
		c.SaysOn, c.SaysOff = o.Card.On, o.Card.Off
	}
	c.Was = c.On
	switch _, silent := paused[c.Key]; {
	case o.Suppressed:
		c.Still, c.On = f.Say("page.blocked"), false
	case silent && !c.On:
		c.Still = f.Say("page.paused")
	case o.State != nil && *o.State == consent.Pending:
		c.Still, c.On = f.Say("pending"), false
	}
	return c
}

// blocked gives the channels of what a form offers on which the do-not-contact list
// silences the citizen.
func blocked(form consent.Form) (channels []string) {
	for _, b := range form.Blocks {
		for _, o := range b.Options {
			if o.Suppressed && o.Channel != nil && !slices.Contains(channels, o.Channel.Name) {
				channels = append(channels, o.Channel.Name)
			}
		}
	}
	return channels
}

// terms is who asks, and what they promise.
type terms struct {
	Party  string
	Policy *link
}

func (f frame) terms(form consent.Form) (t terms) {
	if len(f.centre.Parties) > 0 {
		t.Party = f.centre.Parties[0].Name
	}
	if p := form.PrivacyPolicy; p != nil {
		t.Policy = f.policy(p.Name, p.Version, p.URL)
	}
	return t
}

// policy gives the link to a version of a privacy policy.
func (f frame) policy(name, version, url string) *link {
	return &link{f.Say("policy", "Name", name, "Version", version), url}
}

// problem is what has to be put right, and where.
type problem struct{ At, Text string }

// refusal is why nothing was saved.
type refusal []problem

// At gives what is wrong at one place.
func (r refusal) At(place string) string {
	for _, p := range r {
		if p.At == place {
			return p.Text
		}
	}
	return ""
}

// unanswered is what is wrong with a form in which questions are left that must be answered.
func (f frame) unanswered(form consent.Form) (list refusal) {
	for _, b := range form.Blocks {
		answered := b.SelectedChoice != nil || slices.ContainsFunc(b.Choices, func(c consent.FormChoice) bool { return c.Selected })
		if b.Reference != "" && b.Mandatory && !answered {
			list = append(list, problem{"q-" + b.Reference, f.Say("page.answerError")})
		}
	}
	return list
}

// resend puts what was sent, and not saved, into the parts of a page again.
func resend(parts []part, sent map[string][]string) {
	has := func(field, value string) bool { return slices.Contains(sent[field], value) }
	turn := func(cells []cell) {
		for i := range cells {
			if c := &cells[i]; has("shown", c.Key) {
				c.On = has("o", c.Key)
			}
		}
	}
	for _, p := range parts {
		turn(p.Singles)
		for _, r := range p.Rows {
			turn(r.Cells)
		}
		if q := p.Question; q != nil && has("asked", q.Reference) {
			for k := range q.Choices {
				q.Choices[k].Chosen = has("p:"+q.Reference, q.Choices[k].Reference)
			}
		}
	}
}

func questionOf(b consent.FormBlock) *question {
	q := &question{Reference: b.Reference, Label: cmp.Or(b.Label, b.Heading), Many: b.Type == "multi-choice-preference"}
	for _, c := range b.Choices {
		chosen := c.Selected
		if !q.Many {
			chosen = b.SelectedChoice != nil && *b.SelectedChoice == c.Reference
		}
		if chosen {
			q.Was = append(q.Was, c.Reference)
		}
		q.Choices = append(q.Choices, choice{c.Reference, c.Label, chosen})
	}
	return q
}

// asks reports whether a form has anything that can be answered.
func asks(form consent.Form) bool {
	return slices.ContainsFunc(form.Blocks, func(b consent.FormBlock) bool { return len(b.Options) > 0 || b.Reference != "" })
}

// markets reports whether an application does direct marketing, which one button stops.
func markets(c consent.Catalogue) bool {
	return slices.ContainsFunc(c.Purposes, func(p consent.Purpose) bool { return p.DirectMarketing })
}

// fill puts into a fresh form what was sent: where it differs from what was shown, and
// was shown at all. Everything else says nothing.
func fill(form *consent.Form, sent map[string][]string) {
	has := func(field, value string) bool { return slices.Contains(sent[field], value) }
	for i := range form.Blocks {
		b := &form.Blocks[i]
		for k := range b.Options {
			o := &b.Options[k]
			key := keyOf(o.OptionType, o.OptionID)
			on := has("o", key)
			switch {
			case has("object", key), has("refuse", key), has("allow", key):
				on = has("allow", key)
				o.Selected = &on
			case has("shown", key) && on != has("was", key):
				o.Selected = &on
			default:
				o.Selected = nil
			}
		}
		if b.Reference == "" || !has("asked", b.Reference) {
			continue
		}
		chosen, was := sent["p:"+b.Reference], sent["was:"+b.Reference]
		if slices.Equal(slices.Sorted(slices.Values(chosen)), slices.Sorted(slices.Values(was))) {
			continue
		}
		b.SelectedChoice = nil
		for k := range b.Choices {
			c := &b.Choices[k]
			c.Selected = slices.Contains(chosen, c.Reference)
			if c.Selected && b.Type == "single-choice-preference" {
				b.SelectedChoice = &c.Reference
			}
		}
	}
}
