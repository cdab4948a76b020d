// Package consent is the vocabulary of OpenCPM and its rules: lawful bases and
// states, the catalogue, changes and transactions, and the fold that says which
// change wins.
//
// It is pure. It does no input or output, knows no SQL and no HTTP and never
// reads a clock: the instant is always a parameter, so every rule can be tested
// by naming the moment at which the question is asked.
package consent
