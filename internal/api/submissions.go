package api

import (
	"context"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/core"
	"github.com/opencpm/opencpm/internal/store"
)

// newSubmission is answers to preferences to be recorded.
type newSubmission struct {
	ApplicationID applicationID `json:"applicationId"`
	CitizenID     consent.ID    `json:"citizenId,omitempty"`
	ExternalRef   string        `json:"externalRef,omitempty" minLength:"1" maxLength:"100"`
	Preferences   newAnswers    `json:"preferences" maxItems:"200"`
	Origin
}

type newAnswer struct {
	Preference string   `json:"preference" minLength:"1" maxLength:"100"`
	Choices    []string `json:"choices" maxItems:"200"`
}

type newAnswers []newAnswer

func (list newAnswers) core() []consent.Answer {
	answers := make([]consent.Answer, len(list))
	for i, a := range list {
		answers[i] = consent.Answer{Preference: a.Preference, Choices: make([]consent.Chosen, len(a.Choices))}
		for k, reference := range a.Choices {
			answers[i].Choices[k].Reference = reference
		}
	}
	return answers
}

// recordedSubmissions is the answer to those that were recorded.
type recordedSubmissions struct {
	CitizenID   consent.ID           `json:"citizenId"`
	ExternalRef consent.Text         `json:"externalRef"`
	Submissions []recordedSubmission `json:"submissions"`
}

type recordedSubmission struct {
	SubmissionID consent.ID                `json:"submissionId"`
	RecordedAt   consent.Timestamp         `json:"recordedAt"`
	ObtainedAt   consent.Timestamp         `json:"obtainedAt"`
	Preference   string                    `json:"preference"`
	Choices      []consent.CurrentChoice   `json:"choices"`
	Effective    bool                      `json:"effective"`
	Current      consent.CurrentPreference `json:"current"`
}

type createSubmissionInput struct{ body[newSubmission] }

func (s *server) createSubmission(ctx context.Context, actor core.Actor, in *createSubmissionInput) (recordedSubmissions, error) {
	v, request := in.read()
	done, err := s.Core.Submit(ctx, actor, request, core.Submission{
		ApplicationID: string(v.ApplicationID), Citizen: consent.CitizenKey{ID: v.CitizenID, ExternalRef: v.ExternalRef},
		Answers: v.Preferences.core(), Origin: v.origin(),
	})
	return recordedSubmissions{done.CitizenID, consent.Text(done.ExternalRef), submissionsOf(done)}, err
}

func submissionsOf(done store.Submitted) []recordedSubmission {
	list := make([]recordedSubmission, len(done.Submissions))
	for i, made := range done.Submissions {
		current := done.Current[i]
		list[i] = recordedSubmission{
			made.ID, consent.Timestamp(made.RecordedAt), consent.Timestamp(made.ObtainedAt), made.Answer.Preference, choicesOf(made.Answer),
			current.SubmissionID == made.ID, current,
		}
	}
	return list
}

func choicesOf(a consent.Answer) []consent.CurrentChoice {
	list := make([]consent.CurrentChoice, len(a.Choices))
	for i, c := range a.Choices {
		list[i] = consent.CurrentChoice{Reference: c.Reference, Label: consent.Text(c.Label)}
	}
	return list
}

// submission is one answer of the history, in the words that the catalogue had then.
type submission struct {
	SubmissionID consent.ID              `json:"submissionId"`
	Preference   string                  `json:"preference"`
	Label        consent.Text            `json:"label"`
	Choices      []consent.CurrentChoice `json:"choices"`
	Provenance
}

func submissionOf(l store.Entry) submission {
	a := l.Submission.Answer
	return submission{l.Submission.ID, a.Preference, consent.Text(a.Label), choicesOf(a), provenanceOf(l)}
}

type submissionList struct {
	Submissions []submission `json:"submissions"`
	Page
}

func (s *server) listSubmissions(ctx context.Context, actor core.Actor, in *RecordsInput) (submissionList, error) {
	f, err := in.filter("submissions")
	if err != nil {
		return submissionList{}, err
	}
	found, total, err := s.Core.Submissions(ctx, actor, in.ApplicationID, f)
	out := submissionList{make([]submission, len(found)), in.pageOf("submissions", found, total)}
	for i, l := range found {
		out.Submissions[i] = submissionOf(l)
	}
	return out, err
}

// preferences are the current answers of a citizen, in the form of the webhooks.
type preferences struct {
	ApplicationID string                      `json:"applicationId"`
	CitizenID     consent.ID                  `json:"citizenId"`
	ExternalRef   consent.Text                `json:"externalRef"`
	Preferences   []consent.CurrentPreference `json:"preferences"`
}

// OfCitizen names one citizen of an application in a query.
type OfCitizen struct {
	ApplicationID string  `query:"applicationId" required:"true" maxLength:"50"`
	CitizenID     idParam `query:"citizenId"`
	ExternalRef   string  `query:"externalRef" maxLength:"100"`
}

func (in *OfCitizen) key() consent.CitizenKey {
	return consent.CitizenKey{ID: consent.ID(in.CitizenID), ExternalRef: in.ExternalRef}
}

func (s *server) getPreferences(ctx context.Context, actor core.Actor, in *OfCitizen) (preferences, error) {
	state, err := s.Core.PreferencesOf(ctx, actor, in.ApplicationID, in.key())
	if err != nil {
		return preferences{}, err
	}
	return preferences{in.ApplicationID, state.CitizenID, consent.Text(state.ExternalRef), state.Projection.Preferences()}, nil
}
