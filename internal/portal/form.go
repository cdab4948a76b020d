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
	Singles   []cell // groups, which are not of one channel
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
	Label   string // topic and channel: what the control is called
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
	Key, Label, Text string
	Objected         bool
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
	Wrong     string
}

type choice struct {
	Reference, Label string
	Chosen           bool
}

func keyOf(t consent.OptionType, id string) string { return string(t) + ":" + id }

// parts lays a form out. Nothing is on that was never given.
func (f frame) parts(form consent.Form, pauses []consent.Pause) []part {
	paused := map[string]consent.Instant{}
	for _, p := range pauses {
		for _, k := range p.Options {
			paused[keyOf(k.Type, k.ID)] = p.Until
		}
	}
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

func (f frame) permissions(p *part, b consent.FormBlock, paused map[string]consent.Instant) {
	if b.Statement != nil {
		p.Statement = b.Statement.Content
		if len(p.Statement) == 0 && b.Statement.Text != "" {
			p.Statement = []consent.RichText{{Type: "paragraph", Children: []consent.RichText{{Type: "text", Text: b.Statement.Text}}}}
		}
	}
	parties := map[string]bool{}
	for _, o := range b.Options {
		switch {
		case o.Justification == consent.LegitimateInterest:
			p.Interests = append(p.Interests, interest{keyOf(o.OptionType, o.OptionID), o.Label, o.Description, o.Selected != nil && !*o.Selected})
		case o.Justification != consent.Consent:
			p.Notes = append(p.Notes, note{o.Label, o.Description, f.Say("page.basis." + string(o.Justification))})
		case o.Purpose == nil || o.Channel == nil:
			p.Singles = append(p.Singles, f.cell(o, o.Label, paused))
		default:
			if !slices.Contains(p.Channels, o.Channel.Name) {
				p.Channels = append(p.Channels, o.Channel.Name)
			}
			if o.Party != nil {
				parties[o.Party.ID] = true
			}
		}
	}
	at := map[string]int{}
	for _, o := range b.Options {
		if o.Justification != consent.Consent || o.Purpose == nil || o.Channel == nil {
			continue
		}
		party := consent.FormName{}
		if o.Party != nil {
			party = *o.Party
		}
		key := party.ID + "\x00" + o.Purpose.ID
		i, known := at[key]
		if !known {
			i = len(p.Rows)
			at[key] = i
			r := row{Title: o.Purpose.Name, Cells: make([]cell, len(p.Channels))}
			if len(parties) > 1 {
				r.Party = party.Name
			}
			p.Rows = append(p.Rows, r)
		}
		r := &p.Rows[i]
		r.Text = cmp.Or(r.Text, o.Description)
		r.Cells[slices.Index(p.Channels, o.Channel.Name)] = f.cell(o, o.Purpose.Name+": "+o.Channel.Name, paused)
	}
	if p.Heading == "" && len(p.Rows)+len(p.Singles) > 0 {
		p.Heading = f.Say("page.matrixTitle")
	}
	if len(p.Rows)+len(p.Singles) > 0 {
		p.Hint = f.Say("page.matrixHint")
	}
}

func (f frame) cell(o consent.FormOption, label string, paused map[string]consent.Instant) cell {
	c := cell{Offered: true, Key: keyOf(o.OptionType, o.OptionID), Label: label, Text: o.Description, On: o.Selected != nil && *o.Selected, WordOn: f.Say("on"), WordOff: f.Say("off")}
	if o.Channel != nil {
		c.Channel = o.Channel.Name
	}
	if o.Card != nil {
		c.SaysOn, c.SaysOff = o.Card.On, o.Card.Off
	}
	c.Was = c.On
	switch until, silent := paused[c.Key]; {
	case silent && !c.On:
		c.Still = f.Say("page.paused") + ", " + f.Say("page.until", "Date", f.Date(until))
	case o.Suppressed:
		c.Still, c.On = f.Say("page.blocked"), false
	case o.State != nil && *o.State == consent.Pending:
		c.Still, c.On = f.Say("page.waits"), false
	}
	return c
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
			case has("object", key), has("allow", key):
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
