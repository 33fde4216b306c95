# Where requests go, and what is in them, is what the server's owner said and the parameters were: no redirect is
# followed, and no text of a role becomes a header, another field or another host.

use strict;
use warnings;
use utf8;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use POSIX qw(mkfifo);
use ScreenshotTaskTest;
use Test::More;

my $api   = LiveApi->new;
my $other = LiveApi->new('--plain');
my $node  = ScreenshotTaskTest->start_new('main');
my $fifo  = PostgreSQL::Test::Utils::tempdir . '/fifo';

$node->safe_psql('postgres', 'CREATE ROLE app LOGIN; GRANT INSERT ON screenshot_task_request TO app; GRANT USAGE ON FOREIGN DATA WRAPPER tencent_cloud TO app;'
	  . 'CREATE ROLE victim LOGIN; GRANT INSERT ON screenshot_task_request TO victim');
$node->add_server('tencent_live', $api);
$node->safe_psql('postgres', 'GRANT USAGE ON FOREIGN SERVER tencent_live TO app, victim');

# Redirects: to the same, to another server, to another protocol
for my $url ($api->endpoint . '/', "http://127.0.0.1:$other->{port}/", 'file:///etc/passwd', 'ftp://127.0.0.1/')
{
	my $stream = "fault:redirect=$url,times=1#$url";
	my $error  = $node->try(call_sql(stream_name => $stream))->{error};

	is($error->{sqlstate}, '08007', "$url: a redirect is no answer");
	like($error->{detail}, qr/^HTTP status 302 /, "$url: and the error says so");
	$node->safe_psql('postgres', insert_sql(stream_name => "$stream-table"));
	ok($node->wait_for_table("status = 'in_doubt'", where => 'stream_name = ' . literal("$stream-table")), "$url: a request is in doubt");
}
is($other->requests + 0, 0, 'nothing went to another server');
is($api->requests(action => 'CreateScreenshotTask') + 0, 8, 'and each was sent once');
is($api->ledger(event => 'create') + 0, 0, 'no task was made');

# Texts that would be lines of a header, fields of JSON, or the end of a text
my @texts = ("a\r\nX-Forged: 1\r\n\r\n{}", "a\nHost: evil", "a\rb", "a\tb", "\x01\x1f\x7f", '","TemplateId":1,"x":"', '\\", \\u0000 \\', '直播 é 😀', "\x{2028}\x{85}\x{feff}\x{202e}", '%0d%0aX-Forged:1', '</script>&amp;', "'; DROP TABLE x --");
my (@sent, @expected);
for my $n (0 .. $#texts)
{
	for my $field (qw(stream_name domain_name app_name extension))
	{
		my %task = (template_id => 1000 + @expected, $field => $texts[$n]);

		push @expected, [ $field, $texts[$n] ];
		push @sent, @expected % 2 ? call_sql(%task) : insert_sql(%task);
	}
}
is_deeply($node->try('SET ROLE app;' . join '', @sent)->{error}, undef, 'texts that might be more than a text are taken');
ok($node->wait_for_table("status = 'created'", where => 'template_id < 2000'), 'and sent');
my %request = map { ($_->{task_id} => $_) } $api->requests(outcome => 'TaskId');
is(keys %request, @expected, 'each as one request');
for my $n (0 .. $#expected)
{
	my ($field, $text) = @{ $expected[$n] };
	my ($made) = $api->ledger(event => 'create', template_id => 1000 + $n);
	my $request = $request{ $made->{task_id} };

	is($made->{$field}, $text, "$field $n: the text arrived as it was");
	is_deeply([ sort grep { !/^(?:accept|user-agent|content-(?:type|length)|host|authorization|x-tc-(?:action|version|timestamp|language|region|requestclient|traceid))$/i } keys %{ $request->{headers} } ],
		[], "$field $n: and no header came with it");
}

# A TaskId, and a server, of that kind
for my $call ('stop_screenshot_task', 'delete_screenshot_task')
{
	is($node->try("SELECT $call(" . literal($texts[0]) . ')')->{error}{sqlstate}, '22023', "$call: a TaskId that is none");
	my @requests = $api->requests;
	is_deeply([ grep { /forged/ } keys %{ $requests[-1]{headers} } ], [], "$call: no header came with it");
}
for my $server ("x\r\nHost: evil", 'https://evil', '../x', "tencent_live\n")
{
	is($node->try(call_sql(server => $server))->{error}{sqlstate}, '42704', 'a server that is none, for a call');
	is($node->try(insert_sql(server => $server))->{error}{sqlstate}, '42704', 'and for a request');
}

# A role with servers of its own reaches the vendor from there, and nobody else, whichever way a server comes to be its own;
# they are not those of others, and no mapping of another is used with them.
my $own = 'CREATE SERVER own FOREIGN DATA WRAPPER tencent_cloud';
is_deeply($node->try($own, user => 'app')->{error}, undef, 'a role makes a server');
is($node->try(call_sql(server => 'own'), user => 'app')->{error}{sqlstate}, '28000', 'without a mapping for it nothing is sent');
is($node->try(call_sql(server => 'own'), user => 'victim')->{error}{sqlstate}, '42501', 'others may not use it');
for my $sql ('ALTER SERVER own RENAME TO tencent_live', "ALTER SERVER tencent_live OPTIONS (SET endpoint 'http://127.0.0.1:$other->{port}')",
	'CREATE USER MAPPING FOR victim SERVER tencent_live', 'ALTER USER MAPPING FOR PUBLIC SERVER tencent_live OPTIONS (SET secret_key $$x$$)',
	'ALTER SERVER own OWNER TO postgres', map { "ALTER SERVER own OPTIONS (ADD $_)" } "endpoint 'http://127.0.0.1:$other->{port}'", "endpoint 'https://192.0.2.1'",
	"proxy 'http://127.0.0.1:$other->{port}'", "ca_file '@{[ $api->ca_file ]}'", "metadata_endpoint 'http://127.0.0.1:$other->{port}'", map { "credentials '$_'" } qw(environment file role))
{
	like($node->try($sql, user => 'app')->{error}{sqlstate}, qr/^(?:42501|42710)$/, "$sql: refused");
}
$node->add_server('given', $other, endpoint => "http://127.0.0.1:$other->{port}");
$node->safe_psql('postgres', 'ALTER SERVER given OPTIONS (DROP ca_file); ALTER SERVER given OWNER TO app');
like($node->try(call_sql(server => 'given'), user => 'app')->{error}{message}, qr/^server "given" cannot be used with endpoint "http:.*" because its owner is not a superuser$/, 'one that it was given is not used');
is_deeply($node->try(insert_sql(server => 'given', stream_name => 'given'), user => 'app')->{error}, undef, 'a request to it is taken');
ok($node->wait_for_log(qr/for server "given" are paused for 5 s\n.*DETAIL:  server "given" cannot be used with endpoint/), 'and not sent');
is($other->requests + 0, 0, 'nothing went there');
$node->safe_psql('postgres', 'ALTER SERVER given OWNER TO postgres; GRANT USAGE ON FOREIGN SERVER given TO app');
ok($node->wait_for_table("status = 'created'", where => "stream_name = 'given'"), 'until a superuser owns it');

# A file of certificates that turns into a pipe, or grows without end, holds up neither a session nor the worker.
$node->add_server('piped', $api, ca_file => $fifo);
mkfifo($fifo, 0600) or die "mkfifo: $!";
is($node->try(call_sql(server => 'piped'))->{error}{sqlstate}, '22023', 'a pipe is no file of certificates');
$node->add_server('huge', $api, ca_file => "$fifo.huge");
open my $huge, '>', "$fifo.huge" or die "could not open $fifo.huge: $!";
truncate $huge, 16 * 1024 * 1024 + 1 or die "could not extend $fifo.huge: $!";
like($node->try(call_sql(server => 'huge'))->{error}{detail}, qr/ of at most 16 MB\.$/, 'nor is a huge file');
is($node->try("ALTER SERVER tencent_live OPTIONS (SET ca_file '$fifo.huge')")->{error}{sqlstate}, '22023', 'nor may it be named');
truncate $huge, 16 * 1024 * 1024 or die "could not truncate $fifo.huge: $!";
is($node->try(call_sql(server => 'huge'))->{error}{sqlstate}, '08001', 'one that is just as large as it may be is read');
close $huge;
$node->safe_psql('postgres', insert_sql(server => 'piped', stream_name => 'piped') . insert_sql(stream_name => 'not piped'));
ok($node->wait_for_log(qr/for server "piped" are paused for 5 s\n.*DETAIL:  invalid value for option "ca_file"/), 'its requests wait');
ok($node->wait_for_table("status = 'created'", where => "stream_name = 'not piped'"), 'and others are sent');

# An address that there is no way to is known for that at once, with nothing left to wait for: neither a session nor the
# worker, which sends when a slot comes free, waits for it.
my $nowhere = qr/could not connect to "255\.255\.255\.255/;
$node->set('screenshot_task.sweep_interval' => '1h');
$node->add_server('nowhere', $api, endpoint => 'https://255.255.255.255', requests_per_second => 1);
my $session = $node->begin('DO $$ BEGIN ' . (call_sql(server => 'nowhere') =~ s/.*?(?=create_screenshot_task)/PERFORM /sr)
	  . 'EXCEPTION WHEN sqlclient_unable_to_establish_sqlconnection THEN PERFORM pg_advisory_lock(35), pg_sleep(600); END $$');
ok($node->poll_query_until('postgres', "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted)"), 'a call to nowhere ends')
  or die 'it would be waited for once more';
$node->safe_psql('postgres', "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'");
$session->end;
my $error = $node->try(call_sql(server => 'nowhere'))->{error};
is($error->{sqlstate}, '08001', 'as one that has not connected');
is($error->{message}, 'could not reach server "nowhere" for CreateScreenshotTask', 'and says so');
like($error->{detail}, qr/^$nowhere/, 'and why');
$node->safe_psql('postgres', "ALTER SERVER tencent_live OPTIONS (ADD requests_per_second '1')");
$node->safe_psql('postgres', insert_sql(stream_name => 'before'));
ok($node->wait_for_table("status = 'created'", where => "stream_name = 'before'"), 'a slot is used');
$node->safe_psql('postgres', insert_sql(server => 'nowhere', stream_name => 'nowhere'));
ok($node->wait_for_log(qr/for server "nowhere" are paused for 5 s\n.*DETAIL:  $nowhere/), 'requests to nowhere are paused once it is free');
ok($node->wait_for_table("status = 'pending' AND attempts = 0 AND sent_at IS NULL", where => "stream_name = 'nowhere'"), 'and nothing is lost');

is($api->complaints . $other->complaints, '', 'the stand-ins have nothing to complain of');

done_testing();
