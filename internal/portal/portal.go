// Package portal is what citizens meet: the hosted preference centres, the pages behind
// the links in mails, and the widgets that other pages embed.
package portal
