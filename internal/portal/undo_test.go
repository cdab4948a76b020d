package portal

import (
	"slices"
	"testing"

	"github.com/opencpm/opencpm/internal/consent"
)

// What was answered later, on another device, is not taken back by the button of what was
// answered before it.
func TestUndoingOnTwoDevices(t *testing.T) {
	s := newSite(t)
	id, token := s.citizen("jordan", "newsletter-email")
	first, second := s.reader(), s.reader()
	first.get(s.url+"/c/northwind?token="+token).press("Save choices", "p:frequency=weekly").says("Your choices are saved")
	second.get(s.url+"/c/northwind?token="+token).press("Save choices", "p:frequency=monthly").says("Your choices are saved")
	first.press("Undo this change").says("It is too late to undo this by one button.").lacks("The change is undone")
	if got := s.answers(id); got != "frequency=monthly" {
		t.Errorf("answered is %s", got)
	}
	second.press("Undo this change").says("The change is undone")
	if got := s.answers(id); got != "frequency=weekly" {
		t.Errorf("answered is %s", got)
	}
}

// A save of which a part cannot be undone any more, since it is not asked now, is not undone
// by halves.
func TestUndoingWhatIsNotAskedAnyMore(t *testing.T) {
	s := newSite(t)
	id, token := s.citizen("jordan", "newsletter-email")
	r := s.reader()
	r.get(s.url+"/c/northwind?token="+token).press("Save choices", "p:frequency=weekly").says("Your choices are saved")
	r.press("Save choices", "-o=option:newsletter-email", "p:frequency=monthly").says("Your choices are saved")
	s.edit(func(c *consent.Catalogue) {
		for i := range c.Preferences {
			p := &c.Preferences[i]
			p.Choices = slices.DeleteFunc(p.Choices, func(o consent.Choice) bool { return o.Reference == "weekly" })
		}
	})
	before, records := s.stands(id)+" "+s.answers(id), s.records(id)
	r.press("Undo this change").says("It is too late to undo this by one button.").lacks("The change is undone")
	if after := s.stands(id) + " " + s.answers(id); after != before || s.records(id) != records || r.status >= 500 {
		t.Errorf("%d: of %s became %s by %d records", r.status, before, after, s.records(id)-records)
	}
}
