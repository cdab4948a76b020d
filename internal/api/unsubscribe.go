package api

import (
	"context"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/core"
)

// newUnsubscribeLink asks for a link with which a citizen leaves one option.
type newUnsubscribeLink struct {
	ApplicationID applicationID      `json:"applicationId"`
	CitizenID     consent.ID         `json:"citizenId,omitempty"`
	ExternalRef   string             `json:"externalRef,omitempty" minLength:"1" maxLength:"100"`
	OptionID      string             `json:"optionId"`
	OptionType    consent.OptionType `json:"optionType,omitempty" minLength:"1" maxLength:"20" default:"option"`
}

type unsubscribeLink struct {
	Token string `json:"token"`
	URL   string `json:"url"`
}

type createUnsubscribeLinkInput struct{ body[newUnsubscribeLink] }

func (s *server) createUnsubscribeLink(ctx context.Context, actor core.Actor, in *createUnsubscribeLinkInput) (unsubscribeLink, error) {
	v, request := in.read()
	made, err := s.Core.MintUnsubscribe(ctx, actor, request, core.UnsubscribeRequest{
		ApplicationID: string(v.ApplicationID), Citizen: consent.CitizenKey{ID: v.CitizenID, ExternalRef: v.ExternalRef},
		Leaves: consent.Key{Type: v.OptionType, ID: v.OptionID},
	})
	return unsubscribeLink{made.Token, made.URL}, err
}

// oneClickInput is what a mail program sends for its reader (RFC 8058).
type oneClickInput struct {
	Token   string `path:"token" maxLength:"200" doc:"The token of the link."`
	visitor core.Visitor
}

const multipartType = "multipart/form-data"

// The field of the form, and its one value.
const (
	oneClickField = "List-Unsubscribe"
	oneClickValue = "One-Click"
)

// maxOneClick is how many bytes of a form are read.
const maxOneClick = 4 << 10

// Resolve reads the form, and who sends it.
func (in *oneClickInput) Resolve(hc huma.Context) []error {
	in.visitor = visitorOf(hc)
	data, err := io.ReadAll(io.LimitReader(hc.BodyReader(), maxOneClick))
	if err == nil && oneClick(hc.Header("Content-Type"), string(data)) {
		return nil
	}
	return []error{consent.Errorf(consent.Malformed, "The body must be the form %s=%s.", oneClickField, oneClickValue)}
}

// oneClick reports whether a form is the one of RFC 8058.
func oneClick(contentType, data string) bool {
	mediaType, parameters, _ := mime.ParseMediaType(contentType)
	switch mediaType {
	case formType:
		form, err := url.ParseQuery(data)
		return err == nil && strings.TrimSpace(form.Get(oneClickField)) == oneClickValue
	case multipartType:
		form, err := multipart.NewReader(strings.NewReader(data), parameters["boundary"]).ReadForm(maxOneClick)
		if err != nil {
			return false
		}
		defer func() { _ = form.RemoveAll() }() // nothing so small is on the disk
		values := form.Value[oneClickField]
		return len(values) > 0 && strings.TrimSpace(values[0]) == oneClickValue
	}
	return false
}

// visitorOf says who makes a call.
func visitorOf(hc huma.Context) core.Visitor {
	return core.NewVisitor(hc.RemoteAddr(), hc.Header("User-Agent"))
}

// left is all that is said to a mail program. It is said of every link: whoever tries out
// tokens learns nothing, and a program that asks again and again for a link that was
// damaged on its way helps nobody. So it claims no more than is true of each of them.
const left = "If this is a link from one of our mails, you will get no more mails of that kind.\n"

func (s *server) oneClick(ctx context.Context, _ core.Actor, in *oneClickInput) (stream, error) {
	if _, err := s.Core.Leave(ctx, in.Token, in.visitor, true); err != nil {
		return nil, err
	}
	return func(hc huma.Context) {
		hc.SetHeader("Content-Type", "text/plain; charset=utf-8")
		hc.SetStatus(http.StatusOK)
		_, _ = io.WriteString(hc.BodyWriter(), left) // a program that went away is no one's concern
	}, nil
}

// documentOneClick documents the form.
func (s *server) documentOneClick() {
	schema := &huma.Schema{Type: huma.TypeObject, Required: []string{oneClickField}, Properties: map[string]*huma.Schema{
		oneClickField: {Type: huma.TypeString, Enum: []any{oneClickValue}, Description: "Always `" + oneClickValue + "`."},
	}}
	schema.PrecomputeMessages()
	s.huma.OpenAPI().Paths["/u/{token}"].Post.RequestBody = &huma.RequestBody{
		Required: true, Content: map[string]*huma.MediaType{formType: {Schema: schema, Example: map[string]string{oneClickField: oneClickValue}}, multipartType: {Schema: schema}},
	}
}
