# Following a request: to wait for it, and to be notified of it.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use ScreenshotTaskTest;
use JSON::PP;
use Test::More;

my $api  = LiveApi->new;
my $node = ScreenshotTaskTest->start_new('main', 'screenshot_task.notify_channel' => 'Screenshot Tasks',
	'screenshot_task.reconcile_grace' => '100ms', max_prepared_transactions => 2);

$node->add_server('tencent_live', $api, requests_per_second => 200, request_timeout => '2s');
# For what is waited for while the stand-in rests
$node->add_server('patient', $api, request_timeout => '5min', connect_timeout => '60s');
$node->safe_psql('postgres', 'CREATE ROLE app LOGIN; CREATE ROLE other LOGIN; CREATE ROLE deputy LOGIN IN ROLE app; '
	  . 'GRANT USAGE ON FOREIGN SERVER tencent_live TO app, other; '
	  . 'GRANT INSERT (stream_name, domain_name, app_name, start_time, end_time, template_id, server, reference) '
	  . 'ON screenshot_task_request TO app, other;');

my $wait = 'SELECT id, status, task_id FROM wait_for_screenshot_task';

# A listener, to be asked for what it has been told.
my $listener = $node->background_psql('postgres', on_error_stop => 0);
$listener->query_safe('LISTEN "Screenshot Tasks"');

sub told
{
	my ($n) = @_;
	my @told;

	wait_until(
		sub {
			my ($output) = ($listener->query('SELECT 1'));
			push @told, map { decode_json($_) } $output =~ /with payload "(\{.*?\})" received/g;
			return @told >= $n;
		});
	return [ sort { $a->{id} <=> $b->{id} } @told ];
}

# Do so many sessions come to wait for requests?
sub waiting
{
	return $node->poll_query_until('postgres', "SELECT count(*) = $_[0] FROM pg_stat_activity
		WHERE wait_event_type = 'Extension' AND query LIKE '%wait_for_screenshot_task%' AND pid <> pg_backend_pid()");
}

sub id_of { return $node->safe_psql('postgres', "SELECT id FROM screenshot_task_request WHERE stream_name = '$_[0]'") }

# A request that is being sent while somebody waits for it; in READ COMMITTED and REPEATABLE READ alike.
my @sent;
for my $isolation ('READ COMMITTED', 'REPEATABLE READ', 'SERIALIZABLE')
{
	$api->pause;
	$node->safe_psql('postgres', insert_sql(stream_name => "delayed in $isolation", reference => $isolation, server => 'patient'));
	my $id = id_of("delayed in $isolation");
	my $sql = "BEGIN ISOLATION LEVEL $isolation; SELECT status FROM screenshot_task_request WHERE id = $id; $wait($id); "
	  . "SELECT status FROM screenshot_task_request WHERE id = $id; COMMIT";
	my $session = $node->begin($sql);
	ok(waiting(1), "$isolation: somebody waits");
	$api->go_on;
	my $result = $session->end;
	my ($row)  = $node->table("id = $id");

	is($result->{rows}[0][0] =~ /pending|sending/ ? 1 : 0, 1, "$isolation: it was not finished when the wait began");
	is_deeply($result->{rows}[1], [ $id, 'created', $row->{task_id} ], "$isolation: what became of it is returned");
	is($result->{rows}[2][0], $isolation eq 'READ COMMITTED' ? 'created' : $result->{rows}[0][0],
		"$isolation: what the transaction itself sees");
	push @sent, { id => $id + 0, reference => $isolation, status => 'created', task_id => $row->{task_id} };
}
my $notice;
$node->psql('postgres', "BEGIN ISOLATION LEVEL REPEATABLE READ; $wait($sent[0]{id}); COMMIT", stderr => \$notice);
like($notice, qr/NOTICE:  screenshot task request $sent[0]{id} is returned in its current state\nDETAIL:  The transaction is REPEATABLE READ/,
	'REPEATABLE READ: what cannot be seen is said');

# Many wait at once, and all are told.
$api->pause;
$node->safe_psql('postgres', insert_sql(stream_name => 'crowd', server => 'patient'));
my $crowd = id_of('crowd');
my @sessions = map { $node->begin("$wait($crowd)") } 1 .. 10;
ok(waiting(10), 'ten wait at once');
$api->go_on;
is($_->end->{rows}[0][1], 'created', 'and are told of the result') for @sessions;
push @sent, { id => $crowd + 0, reference => undef, status => 'created', task_id => ($node->table("id = $crowd"))[0]{task_id} };

# It can be interrupted, and the time can be over.
$api->order(fault => 'hang', stream => 'hanging');
$node->safe_psql('postgres', insert_sql(stream_name => 'hanging', server => 'tencent_live', end_time => \q{now() + interval '20 h'}));
my $hanging = id_of('hanging');
my $session = $node->begin("$wait($hanging, '1 h')");
ok($node->poll_query_until('postgres', q{SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event_type = 'Extension' AND query LIKE '%1 h%' AND pid <> pg_backend_pid()}),
	'a wait is cancelled');
is($session->end->{error}{sqlstate}, '57014', 'and ends with that');
is($node->try("SET statement_timeout = '50ms'; $wait($hanging, '1 h')")->{error}{sqlstate}, '57014', 'so it does with a statement_timeout');
my $early = $node->try("$wait($hanging, '0 s')")->{rows}[0];
like($early->[1], qr/^(?:pending|sending|in_doubt)$/, 'with no time a request is returned as it is');

# One in doubt that is left to a person is over.
$node->safe_psql('postgres', q{ALTER SERVER tencent_live OPTIONS (ADD in_doubt 'hold')});
is($node->try("$wait($hanging)")->{rows}[0][1], 'in_doubt', 'one that is left to a person is not waited for');
my $resolved = $node->safe_psql('postgres', "SELECT resolve_screenshot_task_request($hanging, 'task-by-hand'); $wait($hanging)");
is($resolved, "\n$hanging|created|task-by-hand", 'what this session has resolved is over');
push @sent, { id => $hanging + 0, reference => undef, status => 'created', task_id => 'task-by-hand' };

# What could never come is refused at once, and nothing is lost by that.
my %refused = (
	'BEGIN; ' . insert_sql(stream_name => 'own') . "$wait(currval('screenshot_task_request_id_seq'))" => [ '55000', qr/^cannot wait for screenshot task request \d+ in the transaction that made or changed it$/ ],
	"$wait(enqueue_screenshot_task('own2', '5000.live.push.com', 'live', now() + interval '1 h', 1))" => [ '55000', qr/^cannot wait for screenshot task request \d+ in the transaction/ ],
	"SET SESSION AUTHORIZATION other; $wait($crowd)" => [ '42704', qr/^screenshot task request $crowd does not exist$/ ],
	"$wait(99999)"         => [ '42704', qr/^screenshot task request 99999 does not exist$/ ],
	"$wait(NULL)"          => [ '22004', qr/^request_id must not be null$/ ],
	"$wait(1, NULL)"       => [ '22004', qr/^timeout must not be null$/ ],
	"$wait(1, '-1 s')"     => [ '22023', qr/^timeout must not be negative$/ ]);
for my $sql (sort keys %refused)
{
	my $error = $node->try($sql)->{error};

	is($error->{sqlstate}, $refused{$sql}[0], "SQLSTATE of: $sql");
	like($error->{message}, $refused{$sql}[1], 'and its message');
}
is($node->safe_psql('postgres', q{SELECT count(*) FROM screenshot_task_request WHERE stream_name LIKE 'own%'}), 0, 'and leaves nothing');
my $savepoint = $node->try('BEGIN; SAVEPOINT a; ' . insert_sql(stream_name => 'own3') . "$wait(currval('screenshot_task_request_id_seq'))");
is($savepoint->{error}{sqlstate}, '55000', 'nor is one of a subtransaction waited for');

# A role's own requests, and those of a role that one is a member of.
$node->safe_psql('postgres', 'SET SESSION AUTHORIZATION app; ' . insert_sql(stream_name => 'of app'));
my $of_app = id_of('of app');
is($node->try("SET SESSION AUTHORIZATION $_; $wait($of_app)")->{rows}[0][1], 'created', "$_ waits for a request of app") for qw(app deputy postgres);
push @sent, { id => $of_app + 0, reference => undef, status => 'created', task_id => ($node->table("id = $of_app"))[0]{task_id} };

# One that is cancelled, failed, or has expired.
$api->order(fault => 'error=InvalidParameter', stream => 'wrong');
$node->safe_psql('postgres', insert_sql(stream_name => 'wrong', reference => qq{quo"te \\ \t} . "\x{e9}\x{4e2d}")
	  . insert_sql(stream_name => 'far', start_time => \q{now() + interval '10 days'}, end_time => \q{now() + interval '10 days 1 h'})
	  . insert_sql(stream_name => 'late', end_time => \q{now() - interval '1 h'}));
my ($wrong, $far, $late) = map { id_of($_) } qw(wrong far late);
is($node->try("$wait($wrong)")->{rows}[0][1], 'failed',  'one that failed');
is($node->try("$wait($late)")->{rows}[0][1],  'expired', 'one that has expired');
my $for_far = $node->begin("$wait($far, '1 h')");
ok($node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event_type = 'Extension' AND query LIKE '%1 h%' AND pid <> pg_backend_pid()}), 'one is waited for');
$node->safe_psql('postgres', "SELECT cancel_screenshot_task_request($far)");
is($for_far->end->{rows}[0][1], 'cancelled', 'and cancelled meanwhile');

# Who waits is in nobody's way, and learns that a request is gone.
$node->safe_psql('postgres', insert_sql(stream_name => 'removed', start_time => \q{now() + interval '11 days'}, end_time => \q{now() + interval '11 days 1 h'}));
my $removed = id_of('removed');
my $for_removed = $node->begin("$wait($removed, '2 h')");
ok($node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event_type = 'Extension' AND query LIKE '%2 h%' AND pid <> pg_backend_pid()}), 'one is waited for');
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE query LIKE '%2 h%' AND pid <> pg_backend_pid() AND relation IS NOT NULL}), 0,
	'who waits holds no lock on a table');
$node->safe_psql('postgres', q{BEGIN; SET LOCAL lock_timeout = '60s'; LOCK TABLE screenshot_task_request; } . "DELETE FROM screenshot_task_request WHERE id = $removed; COMMIT");
is($for_removed->end->{error}{message}, "screenshot task request $removed does not exist", 'a request that is removed is not waited for any longer');

push @sent,
  { id => $wrong + 0, reference => qq{quo"te \\ \t} . "\x{e9}\x{4e2d}", status => 'failed', task_id => undef },
  { id => $far + 0,  reference => undef, status => 'cancelled', task_id => undef },
  { id => $late + 0, reference => undef, status => 'expired',   task_id => undef };

# Each was told of once, with what it says in the table, in the commit that wrote it.
is_deeply(told(scalar @sent), [ sort { $a->{id} <=> $b->{id} } @sent ], 'a listener was told of each result, once');

# The longest reference and TaskId, all of what JSON writes at length, fit.
my $longest = "\1" x 1024;
$api->order(fault => 'hang', stream => 'longest');
$node->safe_psql('postgres', insert_sql(stream_name => 'longest', reference => \'repeat(chr(1), 1024)'));
my $id = id_of('longest');
is($node->try("$wait($id)")->{rows}[0][1], 'in_doubt', 'one with the longest reference is in doubt');
$node->safe_psql('postgres', "SELECT resolve_screenshot_task_request($id, repeat(chr(1), 255))");
is_deeply(told(1), [ { id => $id + 0, reference => $longest, status => 'created', task_id => "\1" x 255 } ],
	'and is notified of with all of it');
my $error = $node->try(insert_sql(stream_name => 'long', reference => \'repeat(chr(1), 1025)'))->{error};
is($error->{sqlstate}, '22023', 'there is no longer one');
is($error->{message}, 'reference must be at most 1024 bytes', 'and why');

# Whoever drops that constraint is notified without what does not fit.
$node->safe_psql('postgres', 'ALTER TABLE screenshot_task_request DROP CONSTRAINT reference_must_be_at_most_1024_bytes; BEGIN;'
	  . insert_sql(stream_name => 'long') . "UPDATE screenshot_task_request SET reference = repeat(chr(1), 2000) WHERE stream_name = 'long'; COMMIT");
is($node->try($wait . '(' . id_of('long') . ')')->{rows}[0][1], 'created', 'one with a longer reference is created');
is_deeply(told(1), [ { id => id_of('long') + 0, reference => undef, status => 'created', task_id => undef } ], 'and notified of without it');

# No notices where there is no channel; and a name that is none is refused.
$node->set('screenshot_task.notify_channel' => '');
$node->safe_psql('postgres', insert_sql(stream_name => 'quiet'));
is($node->try($wait . '(' . id_of('quiet') . ')')->{rows}[0][1], 'created', 'one is created without a channel');
is_deeply([ $listener->query('SELECT 1') =~ /payload/g ], [], 'nobody is notified without a channel');
my $too_long = $node->try("ALTER SYSTEM SET screenshot_task.notify_channel = '" . 'c' x 64 . "'")->{error};
is($too_long->{sqlstate}, '22023', 'a name of 64 bytes is no channel');
is($too_long->{detail}, 'A channel name must have at most 63 bytes.', 'and why');
$listener->quit;

done_testing();
