package api

import (
	"github.com/danielgtaylor/huma/v2"

	"github.com/opencpm/opencpm/internal/consent"
)

// About says what a change is about in words, as the catalogue has them now, or had them
// when it was archived.
type About struct {
	Name    string      `json:"name" doc:"The name of the option or the group."`
	Purpose *namedThing `json:"purpose" doc:"The purpose of the option; null of a group."`
	Channel *namedThing `json:"channel" doc:"The channel of the option; null of a group."`
}

// namedThing is a purpose or a channel in the words of its catalogue.
type namedThing struct {
	ID    string            `json:"id"`
	Name  string            `json:"name" doc:"The name that its owner gave it."`
	Label map[string]string `json:"label,omitempty" doc:"The name that citizens read, by locale; an empty locale is the default one. Without it they read the name."`
}

// TransformSchema says that a group is about many.
func (About) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema {
	for _, name := range []string{"purpose", "channel"} {
		s.Properties[name] = orNull(s.Properties[name])
	}
	return s
}

// aboutOf finds what an option or a group is about.
func aboutOf(s *consent.Snapshot, k consent.Key) About {
	a := s.About(k)
	if a.Option.ID == "" {
		return About{Name: a.Group.Name}
	}
	return About{a.Option.Name, &namedThing{a.Purpose.ID, a.Purpose.Name, a.Purpose.Label}, channelOf(a.Channel)}
}

func channelOf(c consent.Channel) *namedThing { return &namedThing{c.ID, c.Name, c.Label} }
