<?php
// A small receiver of OpenCPM's webhooks: it checks the signature, drops duplicates and keeps the newest state of each
// citizen in SQLite. PHP 8 with pdo_sqlite, nothing else to install.
//
//   WEBHOOK_SECRETS=whsec_… php -S 127.0.0.1:9090 receiver.php

declare(strict_types=1);

const TOLERANCE = 5 * 60; // how far the clocks may be apart, in seconds
const MAX_MESSAGE = 1 << 20; // the longest body that is read, in bytes

const SCHEMA = <<<'SQL'
    CREATE TABLE IF NOT EXISTS seen (webhook_id TEXT PRIMARY KEY, at INTEGER NOT NULL);
    CREATE TABLE IF NOT EXISTS citizen (
        citizen_id   TEXT PRIMARY KEY,
        external_ref TEXT,
        sent_at      TEXT NOT NULL,
        message      TEXT
    );
    CREATE INDEX IF NOT EXISTS citizen_ref ON citizen (external_ref);
    SQL;

// The keys of the secrets; two while a secret is rotated.
function keys(): array
{
    $keys = [];
    foreach (array_filter(explode(' ', (string) getenv('WEBHOOK_SECRETS'))) as $secret) {
        $key = base64_decode(substr($secret, strlen('whsec_')), true);
        if ($key === false || strlen($key) < 24) {
            throw new RuntimeException('WEBHOOK_SECRETS: not whsec_ and the base64 of a key');
        }
        $keys[] = $key;
    }
    return $keys;
}

// Says whether one of the signatures was made with one of the keys, lately, over this very body.
function verify(array $keys, string $body): bool
{
    $id = $_SERVER['HTTP_WEBHOOK_ID'] ?? '';
    $at = $_SERVER['HTTP_WEBHOOK_TIMESTAMP'] ?? '';
    if ($id === '' || !ctype_digit($at) || abs(time() - (int) $at) > TOLERANCE) {
        return false;
    }
    foreach ($keys as $key) {
        $want = 'v1,' . base64_encode(hash_hmac('sha256', "$id.$at.$body", $key, true));
        foreach (explode(' ', $_SERVER['HTTP_WEBHOOK_SIGNATURE'] ?? '') as $signature) {
            if (hash_equals($want, $signature)) {
                return true;
            }
        }
    }
    return false;
}

// Reads a body, in its CloudEvents envelope or without one; null for what is no message.
function parse(string $contentType, string $body): ?array
{
    $message = json_decode($body, true);
    if (str_starts_with($contentType, 'application/cloudevents+json')) {
        $message = $message['data'] ?? null;
    }
    return isset($message['citizenId'], $message['sentAt'], $message['eventType']) ? $message : null;
}

// Stores what a message says, unless it was stored before or is older than what is there.
function apply(PDO $db, string $id, array $message): void
{
    $event = $message['eventType'];
    if ($event === 'test') {
        return;
    }
    $db->beginTransaction(); // the id is never kept without the state, nor the state without the id
    $seen = $db->prepare('INSERT OR IGNORE INTO seen VALUES (?, ?)');
    $seen->execute([$id, time()]);
    if ($seen->rowCount() > 0) {
        // Of an erased citizen nothing is kept but that there is nothing to be told any more.
        $erased = $event === 'citizen.deleted';
        $db->prepare(<<<'SQL'
            INSERT INTO citizen (citizen_id, external_ref, sent_at, message) VALUES (?, ?, ?, ?)
            ON CONFLICT (citizen_id) DO UPDATE SET
                external_ref = excluded.external_ref, sent_at = excluded.sent_at, message = excluded.message
            WHERE excluded.sent_at > citizen.sent_at
            SQL)->execute([
            $message['citizenId'],
            $erased ? null : $message['externalRef'] ?? null,
            $message['sentAt'],
            $erased ? null : json_encode($message, JSON_THROW_ON_ERROR),
        ]);
    }
    $db->commit();
}

// Answers 204 once the message is safe, and only then.
function receive(PDO $db): int
{
    $body = (string) file_get_contents('php://input', length: MAX_MESSAGE + 1);
    if (strlen($body) > MAX_MESSAGE) {
        return 413;
    }
    if (!verify(keys(), $body)) {
        return 401;
    }
    $message = parse($_SERVER['CONTENT_TYPE'] ?? '', $body);
    if ($message === null) {
        return 400;
    }
    apply($db, $_SERVER['HTTP_WEBHOOK_ID'], $message);
    return 204;
}

$db = new PDO('sqlite:' . (getenv('DATABASE') ?: 'receiver.db'), options: [PDO::ATTR_TIMEOUT => 10]);
$db->exec(SCHEMA);

if ($_SERVER['REQUEST_METHOD'] === 'POST') {
    http_response_code(receive($db));
    return;
}
$find = $db->prepare('SELECT message FROM citizen WHERE external_ref = ?');
$find->execute([rawurldecode(substr($_SERVER['REQUEST_URI'], strlen('/citizens/')))]);
$found = $find->fetchColumn();
http_response_code($found === false ? 404 : 200);
header('Content-Type: application/json');
echo $found;
