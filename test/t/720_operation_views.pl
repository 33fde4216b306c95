# Watching: the views screenshot_task_stat and screenshot_task_worker, and what the log says of faults.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use ScreenshotTaskTest;
use Test::More;

my $api  = LiveApi->new('--limit', 1000, '--http1');
my $node = ScreenshotTaskTest->start_new('main', 'screenshot_task.reconcile_grace' => '100ms',
	'screenshot_task.reconcile_spacing' => '200ms');

sub stat_of { return ($node->rows("SELECT * FROM screenshot_task_stat WHERE server = '$_[0]'" . ($_[1] ? " AND datname = '$_[1]'" : '')))[0] }
sub worker { return ($node->rows(q{SELECT *, extract(epoch FROM oldest_age) AS age, extract(epoch FROM drain_time) AS drain
	FROM screenshot_task_worker WHERE datname = '} . ($_[0] // 'postgres') . q{'}))[0] }
sub ms { return $node->safe_psql('postgres', "SELECT extract(epoch FROM interval '$_[0]') * 1000") }

$node->safe_psql('postgres', 'CREATE DATABASE other; CREATE DATABASE bare; CREATE ROLE watcher LOGIN IN ROLE pg_monitor; CREATE ROLE nobody LOGIN');
$node->safe_psql('other', 'CREATE EXTENSION screenshot_task');
# Of this one none is to be in doubt, however busy the machine is.
$node->add_server('tencent_live', $api, requests_per_second => 1000);
$node->add_server('tencent_live', $api, requests_per_second => 1000, dbname => 'other');
$node->add_server($_, $api, requests_per_second => 1000, request_timeout => $_ eq 'second' ? '5min' : '2s', ca_file => $api->ca_file_copy) for qw(second lossy);

# A row for each database that has the extension, and for none other.
ok($node->poll_query_until('postgres', 'SELECT count(*) = 2 FROM screenshot_task_worker'), 'a row for each database with the extension');
is_deeply([ map { $_->{datname} } $node->rows('SELECT datname FROM screenshot_task_worker ORDER BY 1') ], [ 'other', 'postgres' ], 'and no other');
ok(wait_until(sub { worker()->{state} eq 'idle' }), 'a worker without work is idle');
is(worker()->{pid}, $node->worker_pid, 'and is the one that pg_stat_activity shows');

# What is created, by server and database.
$node->safe_psql('postgres', insert_sql(rows => 30, stream_name => \"'a ' || i") . insert_sql(rows => 3, stream_name => \"'b ' || i", server => 'second'));
$node->safe_psql('other', insert_sql(rows => 7, stream_name => \"'c ' || i"));
ok($node->wait_for_table("status = 'created'", dbname => $_), "$_: all are created") for qw(postgres other);
ok(wait_until(sub { stat_of('tencent_live', 'postgres')->{created} == 30 }), 'created requests are counted');
is(stat_of('second')->{created}, 3, 'of each server');
ok(wait_until(sub { stat_of('tencent_live', 'other')->{created} == 7 }), 'in each database');
is($node->safe_psql('other', 'SELECT sum(created) FROM screenshot_task_stat'), 40, 'seen from any database');
ok(wait_until(sub { my $w = worker(); $w->{state} eq 'idle' && $w->{pending} == 0 && $w->{in_flight} == 0 && $w->{drain} == 0 && !defined $w->{age} }),
	'and nothing is left to do');
cmp_ok(stat_of('tencent_live', 'other')->{connections}, '>=', 1, 'connections are counted');

# Latencies: one in fifty is slow.
$node->safe_psql('postgres', 'SELECT screenshot_task_stat_reset()');
is(stat_of('tencent_live', 'postgres')->{created}, 0, 'counters are reset');
is(stat_of('tencent_live', 'postgres')->{latency_p50}, undef, 'and there is no latency');
$api->order(fault => 'delay=1', stream => 'slow *', times => 0);
$node->safe_psql('postgres', insert_sql(rows => 60, stream_name => \"'quick ' || i") . insert_sql(rows => 2, stream_name => \"'slow ' || i"));
ok(wait_until(sub { stat_of('tencent_live', 'postgres')->{created} == 62 }), 'some are slow');
my $stat = stat_of('tencent_live', 'postgres');
cmp_ok(ms($stat->{latency_p99}), '>=', 1000 / 1.032, 'the 99th percentile is that of the slow ones');
cmp_ok(ms($stat->{latency_max}), '>=', 1000, 'as is the longest');
cmp_ok(ms($stat->{latency_p50}), '<', ms($stat->{latency_p99}), 'and the median is not');
cmp_ok(ms($stat->{latency_p99}), '<=', ms($stat->{latency_max}), 'nor is any above the longest');

# What went wrong.
$api->order(fault => 'error=InvalidParameter', stream => 'wrong *', times => 0);
$api->order(fault => 'close,create', stream => 'lost *', action => 'CreateScreenshotTask');
$api->order(fault => 'close', stream => 'never *', action => 'CreateScreenshotTask');
$api->order(fault => 'error=RequestLimitExceeded', stream => 'throttled *', times => 2);
$api->order(fault => 'error=LimitExceeded.MaximumRunningTask', stream => 'quota *', times => 2);
$node->safe_psql('postgres', join '', (map { insert_sql(rows => 2, stream_name => \"'$_ ' || i") } qw(wrong throttled quota)),
	map { insert_sql(stream_name => "$_ 1", server => 'lossy') } qw(lost never));
$node->safe_psql('postgres', insert_sql(stream_name => 'over at once', end_time => \q{now() - interval '1 h'}) . 'BEGIN;' . insert_sql(stream_name => 'over')
	  . q{UPDATE screenshot_task_request SET end_time = now() - interval '1 h' WHERE stream_name = 'over'; COMMIT});
ok($node->wait_for_table(q{status IN ('created', 'failed', 'expired')}), 'all end');
ok(wait_until(sub { stat_of('tencent_live', 'postgres')->{created} == 62 + 4 && stat_of('lossy')->{created} + stat_of('lossy')->{found} == 2 }), 'each is counted once');
$stat = stat_of('tencent_live', 'postgres');
is_deeply({ map { $_ => $stat->{$_} } qw(failed expired in_doubt found resent) },
	{ failed => 2, expired => 1, in_doubt => 0, found => 0, resent => 0 }, 'as what has become of it');
$stat = stat_of('lossy');
is_deeply({ map { $_ => $stat->{$_} } qw(created failed expired in_doubt found resent) },
	{ created => 1, failed => 0, expired => 0, in_doubt => 2, found => 1, resent => 1 }, 'so it is with those in doubt');
$stat = stat_of('tencent_live', 'postgres');
cmp_ok($stat->{throttled}, '>=', 2, 'throttled answers are counted');
cmp_ok($stat->{postponed}, '>=', 4, 'and what was put back');
$node->safe_psql('postgres', insert_sql(stream_name => 'wrong 3'));
ok(wait_until(sub { worker()->{last_error} =~ /^request \d+ failed: InvalidParameter: ordered by a test, RequestId \S+$/ }), 'the last error is shown');
ok(defined worker()->{last_error_at}, 'and when it was');
is(worker('other')->{last_error}, undef, 'of each database');

# Calls.
is_deeply($node->try(call_sql(stream_name => 'called'))->{error}, undef, 'a call');
is($node->try(call_sql(stream_name => 'wrong 1'))->{error}{sqlstate}, '22023', 'and one that fails');
is_deeply([ @{ stat_of('tencent_live', 'postgres') }{qw(calls failed_calls)} ], [ 2, 1 ], 'are counted');

# What a worker was sending when it ended is in doubt: counted, with a line in the log for each.
$api->order(fault => 'hang,create', stream => 'orphan *', times => 0, action => 'CreateScreenshotTask');
my $stat_before = stat_of('second');
my $log_before  = $node->log_size;
$node->safe_psql('postgres', insert_sql(rows => 2, stream_name => \"'orphan ' || i", server => 'second'));
ok($api->wait_for_requests(1, stream_name => 'orphan 1', action => 'CreateScreenshotTask'), 'a worker is sending');
$node->safe_psql('postgres', q{ALTER SERVER second OPTIONS (SET request_timeout '2s')});
$node->safe_psql('postgres', q{SELECT pg_terminate_backend(pid) FROM screenshot_task_worker WHERE datname = 'postgres'});
ok($node->wait_for_table("status = 'created'", where => "stream_name LIKE 'orphan %'"), 'what it was sending is found in the end');
my $stat_after = stat_of('second');
cmp_ok($stat_after->{in_doubt} - $stat_before->{in_doubt}, '>=', 1, 'and is counted as having been in doubt');
is($stat_after->{in_doubt} - $stat_before->{in_doubt} - ($stat_after->{found} - $stat_before->{found}) - ($stat_after->{resent} - $stat_before->{resent}), 0,
	'until it was found, or sent again');
my ($orphan) = map { $_->{id} } $node->table("stream_name = 'orphan 1'");
like($node->log_text($log_before), qr/screenshot task request $orphan is in doubt\n.*DETAIL:  worker exited while the request was in flight; outcome unknown/, 'with a line in the log');
ok(wait_until(sub { worker()->{in_doubt} == 0 }), 'none is in doubt any more');

# What is pending on a server that is not reached is shown as such; and a new worker knows nothing of its pauses.
$node->add_server('absent', $api, endpoint => 'https://127.0.0.1:1');
$node->safe_psql('postgres', insert_sql(rows => 3, stream_name => \"'absent ' || i", server => 'absent'));
ok(wait_until(sub { my $w = worker(); $w->{pauses} == 1 && $w->{pending} == 3 && $w->{state} eq 'paused' }), 'pending on a server that is not reached');
is(worker()->{drain}, undef, 'for nobody knows how long');
$node->safe_psql('postgres', q{SELECT cancel_screenshot_task_request(id) FROM screenshot_task_request WHERE server = 'absent'});
my $paused_worker = worker()->{pid};
$node->safe_psql('postgres', "SELECT pg_terminate_backend($paused_worker)");
ok(wait_until(sub { my $w = worker(); ($w->{pid} // $paused_worker) != $paused_worker && $w->{pauses} == 0 && $w->{pending} == 0 && $w->{state} eq 'idle' }), 'a new worker has no pauses');
like(worker()->{last_error}, qr/127\.0\.0\.1:1/, 'and tells what went wrong for the last one');

# A reset forgets databases that are gone.
$node->safe_psql('postgres', 'CREATE DATABASE brief');
$node->safe_psql('brief', 'CREATE EXTENSION screenshot_task');
$node->add_server('tencent_live', $api, requests_per_second => 1000, dbname => 'brief');
is_deeply($node->try(call_sql(stream_name => 'called briefly'), dbname => 'brief')->{error}, undef, 'a call in another database');
my $calls = 'SELECT coalesce(sum(calls), 0), count(*) FROM screenshot_task_stat()';
my $is_gone = 'datid NOT IN (SELECT oid FROM pg_database)';
$node->safe_psql('postgres', 'DROP DATABASE brief');
is($node->safe_psql('postgres', "$calls WHERE $is_gone"), '1|1', 'is counted still when that is gone');
$node->safe_psql('postgres', 'SELECT screenshot_task_stat_reset()');
is($node->safe_psql('postgres', "$calls WHERE $is_gone"), '0|0', 'until the next reset');
is($node->safe_psql('postgres', "$calls WHERE datid = (SELECT oid FROM pg_database WHERE datname = 'postgres') AND server = 'tencent_live'"), '0|1', 'which keeps others');

# What is in another encoding shows as far as it is ASCII.
$node->safe_psql('postgres', q{CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0});
$node->safe_psql('latin', 'CREATE EXTENSION screenshot_task');
$node->add_server('U&"s\00e9rv"', $api, requests_per_second => 1000, dbname => 'latin');
$node->safe_psql('latin', insert_sql(stream_name => 'wrong in latin', server => \q{U&'s\00e9rv'}) . insert_sql(stream_name => 'good', server => \q{U&'s\00e9rv'}));
ok($node->wait_for_table(q{status IN ('created', 'failed')}, dbname => 'latin'), 'requests of a server whose name is not ASCII');
$node->safe_psql('latin', q{ALTER SERVER U&"s\00e9rv" OPTIONS (SET endpoint 'https://127.0.0.1:1')});
$node->safe_psql('latin', insert_sql(stream_name => 'not reached', server => \q{U&'s\00e9rv'}));
ok($node->poll_query_until('postgres', q{SELECT paused LIKE 'server "s?rv" until %' FROM screenshot_task_worker WHERE datname = 'latin'}),
	'its pause shows elsewhere');
is($node->safe_psql('postgres', q{SELECT server, created FROM screenshot_task_stat WHERE datname = 'latin'}), 's?rv|1', 'and so does what is counted of it');
is($node->safe_psql('latin', q{SELECT count(*) FROM screenshot_task_stat WHERE datname = 'latin' AND server = U&'s\00e9rv'}), 1, 'where it is, it has its name');
is($node->safe_psql('latin', q{SELECT paused LIKE U&'server "s\00e9rv" until %' FROM screenshot_task_worker WHERE datname = 'latin'}), 't', 'in both views');
$node->safe_psql('postgres', 'DROP DATABASE latin');

# A backlog: what is pending, how old, how long it takes; and what is paused and why.
$node->set('screenshot_task.enabled' => 'off');
$node->safe_psql('postgres', insert_sql(rows => 300, stream_name => \"'backlog ' || i")
	  . insert_sql(rows => 5, stream_name => \"'far ' || i", start_time => \q{now() + interval '9 days'}, end_time => \q{now() + interval '9 days 1 h'}));
ok(wait_until(sub { my $w = worker(); $w->{pending} == 305 && $w->{waiting} == 5 && $w->{state} eq 'disabled' }), 'what is pending is counted');
$node->safe_psql('postgres', q{ALTER SERVER tencent_live OPTIONS (SET requests_per_second '20')});
$node->set('screenshot_task.enabled' => 'on');
ok(wait_until(sub { my $w = worker(); $w->{state} eq 'sending' && $w->{pending} < 295 && $w->{pending} > 5 && ($w->{age} // 0) > 0 && ($w->{drain} // 0) > 0 && $w->{drain} < 60 }),
	'while it drains, it has an age, and takes some seconds more');
$node->safe_psql('postgres', q{ALTER SERVER tencent_live OPTIONS (SET endpoint 'https://127.0.0.1:1')});
ok(wait_until(sub { my $w = worker(); $w->{state} eq 'paused' && $w->{pauses} == 1 }), 'a pause shows');
like(worker()->{paused}, qr/^server "tencent_live" until 20\S+ \S+: could not connect to "127\.0\.0\.1:1"/, 'which, until when, and why');
is(worker('other')->{pauses}, 0, 'and nothing of it elsewhere');
$node->safe_psql('postgres', q{ALTER SERVER tencent_live OPTIONS (SET endpoint '} . $api->endpoint . q{', SET requests_per_second '1000')});
ok($node->wait_for_table(q{status <> 'pending' AND status <> 'sending' OR stream_name LIKE 'far %'}), 'and the backlog drains');
ok(wait_until(sub { my $w = worker(); $w->{pauses} == 0 && !defined $w->{paused} && $w->{pending} == 5 }), 'to what must wait');

# A worker that ends is followed by another; what was counted stays.
my $created = stat_of('tencent_live', 'postgres')->{created};
my $old = $node->worker_pid;
$node->safe_psql('postgres', "SELECT pg_terminate_backend($old)");
ok($node->poll_query_until('postgres', "SELECT count(*) = 1 FROM screenshot_task_worker WHERE datname = 'postgres' AND pid <> $old"), 'a new worker shows');
is(stat_of('tencent_live', 'postgres')->{created}, $created, 'and nothing is forgotten');

# Who has locked the table keeps the worker waiting: that is told, and what is not written yet counts as in flight.
$api->pause;
$node->safe_psql('postgres', insert_sql(stream_name => 'locked out'));
ok(wait_until(sub { worker()->{in_flight} == 1 }), 'a request is under way');
my $locker = $node->begin('BEGIN; LOCK TABLE screenshot_task_request IN SHARE MODE; SELECT pg_sleep(600)');
ok($node->poll_query_until('template1', "SELECT count(*) = 1 FROM pg_stat_activity WHERE query ~ 'pg_sleep.600' AND wait_event = 'PgSleep'"), 'the table is locked');
$api->go_on;
ok(wait_until(sub { $api->ledger(stream_name => 'locked out') == 1 && (worker()->{last_error} // '') =~ /^table screenshot_task_request is locked by another session; / }), 'that the table is locked is told');
is(worker()->{in_flight}, 1, 'what is not written down is in flight');
$node->safe_psql('postgres', q{SELECT pg_terminate_backend(pid) FROM pg_locks WHERE relation = 'screenshot_task_request'::regclass AND mode = 'ShareLock'});
$locker->end;
ok($node->wait_for_table("status = 'created'", where => "stream_name = 'locked out'"), 'it is written once it may be');
ok(wait_until(sub { worker()->{in_flight} == 0 }), 'and no more in flight');

# Storms: of equal faults a few have a line each, the others one together.
$api->order(fault => 'error=InvalidParameter.Storm', stream => 'storm *', times => 0);
my $offset = $node->log_size;
$node->safe_psql('postgres', insert_sql(rows => 150, stream_name => \"'storm ' || i"));
ok(wait_until(sub { $node->log_text($offset) =~ /more screenshot task requests? for server "tencent_live" failed/ }), 'a storm is summed up');
ok($node->wait_for_table("status = 'failed'", where => "stream_name LIKE 'storm %'"), 'all have failed');
my $more = sub { my ($n, $log) = (0, $node->log_text($offset)); $n += $1 while $log =~ /(\d+) more screenshot task requests? for server "tencent_live" failed\n.*DETAIL:  The last was request \d+: InvalidParameter.Storm: ordered by a test, RequestId \S+/g; return $n };
ok(wait_until(sub { $more->() == 140 }), 'with how many there were');
is(scalar(() = $node->log_text($offset) =~ /screenshot task request \d+ failed\n.*DETAIL:  InvalidParameter.Storm: ordered by a test, RequestId \S+/g), 10, 'after some that have a line each');

# A worker that ends says what it knows of a storm.
$offset = $node->log_size;
$node->safe_psql('postgres', insert_sql(rows => 30, stream_name => \"'storm again ' || i"));
ok($node->wait_for_table("status = 'failed'", where => "stream_name LIKE 'storm again %'"), 'another one');
$node->stop('fast');
my $lines = () = $node->log_text($offset) =~ /screenshot task request \d+ failed\n/g;
is($lines + $more->(), 30, 'is told of in full before the worker ends');
$node->start;

# Who may see what.
ok($node->poll_query_until('postgres', 'SELECT count(*) = 2 FROM screenshot_task_worker'), 'after a restart all workers are there again');
is($node->try('SELECT count(*) FROM screenshot_task_worker', user => 'watcher')->{rows}[0][0], 2, 'pg_monitor sees them');
is_deeply($node->try('SELECT count(*) FROM screenshot_task_stat', user => 'watcher')->{error}, undef, 'and the statistics');
is($node->try('SELECT count(*) FROM screenshot_task_request', user => 'watcher')->{rows}[0][0], 0, 'but no requests');
for my $denied ([ watcher => 'SELECT screenshot_task_stat_reset()' ], map { [ nobody => $_ ] } 'TABLE screenshot_task_worker', 'TABLE screenshot_task_stat',
	'SELECT * FROM screenshot_task_worker()', 'SELECT * FROM screenshot_task_stat()', 'SELECT screenshot_task_stat_reset()')
{
	is($node->try($denied->[1], user => $denied->[0])->{error}{sqlstate}, '42501', "$denied->[0] may not: $denied->[1]");
}

# Without the library preloaded there is nothing to see, and it says why.
$node->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$node->restart;
for my $sql ('TABLE screenshot_task_worker', 'TABLE screenshot_task_stat', 'SELECT screenshot_task_stat_reset()', 'SELECT wait_for_screenshot_task(1)')
{
	my $error = $node->try($sql)->{error};

	is($error->{sqlstate}, '55000', "not preloaded: $sql");
	is($error->{message}, 'screenshot_task must be loaded via "shared_preload_libraries"', 'and why');
}

done_testing();
