package consent

import (
	"bytes"
	"net/url"
	"strings"

	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/parser"
	"github.com/yuin/goldmark/text"
	"github.com/yuin/goldmark/util"
)

// markdown knows paragraphs, lists, bold and links, and nothing else: the rest of a
// text is what it says.
var markdown = parser.NewParser(
	parser.WithBlockParsers(
		util.Prioritized(parser.NewListParser(), 300),
		util.Prioritized(parser.NewListItemParser(), 400),
		util.Prioritized(parser.NewParagraphParser(), 1000),
	),
	parser.WithInlineParsers(
		util.Prioritized(parser.NewLinkParser(), 200),
		util.Prioritized(parser.NewAutoLinkParser(), 300),
		util.Prioritized(parser.NewEmphasisParser(), 500),
	),
)

// ParseRichText reads a text in limited Markdown: as a tree, in which links lead to
// https and mailto alone, and as plain words.
func ParseRichText(source string) (content []RichText, plain string) {
	r := richReader{source: []byte(source)}
	content = r.children(markdown.Parse(text.NewReader(r.source)))
	return content, strings.TrimSpace(words(content, "\n\n"))
}

type richReader struct{ source []byte }

// children reads what is in a node; neighbouring texts become one.
func (r richReader) children(n ast.Node) []RichText {
	list := []RichText{}
	for c := n.FirstChild(); c != nil; c = c.NextSibling() {
		for _, v := range r.node(c) {
			if last := len(list) - 1; v.Type == "text" && last >= 0 && list[last].Type == "text" {
				list[last].Text += v.Text
				continue
			}
			list = append(list, v)
		}
	}
	return list
}

func (r richReader) node(n ast.Node) []RichText {
	switch n := n.(type) {
	case *ast.Text:
		said := string(util.UnescapePunctuations(n.Segment.Value(r.source)))
		switch {
		case n.HardLineBreak():
			said += "\n"
		case n.SoftLineBreak():
			said += " "
		}
		return []RichText{{Type: "text", Text: said}}
	case *ast.AutoLink:
		label := string(n.Label(r.source))
		href := label
		if n.AutoLinkType == ast.AutoLinkEmail && !strings.HasPrefix(label, "mailto:") {
			href = "mailto:" + label
		}
		return link(href, []RichText{{Type: "text", Text: label}})
	case *ast.Link:
		return link(string(util.UnescapePunctuations(bytes.TrimSpace(n.Destination))), r.children(n))
	case *ast.Emphasis:
		if n.Level == 2 {
			return []RichText{{Type: "strong", Children: r.children(n)}}
		}
		return r.children(n)
	case *ast.List:
		return []RichText{{Type: "list", Start: n.Start, Children: r.children(n)}}
	case *ast.ListItem:
		return []RichText{{Type: "item", Children: r.children(n)}}
	case *ast.TextBlock:
		return r.children(n) // of an item in a tight list
	}
	return []RichText{{Type: "paragraph", Children: r.children(n)}}
}

// link leads where a link may lead, and is its words where it may not.
func link(href string, label []RichText) []RichText {
	u, err := url.Parse(href)
	if err != nil || (u.Scheme != "https" || u.Host == "") && (u.Scheme != "mailto" || u.Opaque == "") {
		return label
	}
	return []RichText{{Type: "link", Href: u.String(), Children: label}}
}

// words gives the words of a tree, its blocks apart.
func words(list []RichText, apart string) string {
	var b strings.Builder
	for i, v := range list {
		block := v.Type == "paragraph" || v.Type == "list" || v.Type == "item"
		if i > 0 && block {
			b.WriteString(apart)
		}
		if v.Type == "item" {
			b.WriteString("- ")
		}
		b.WriteString(v.Text + words(v.Children, "\n"))
	}
	return b.String()
}
