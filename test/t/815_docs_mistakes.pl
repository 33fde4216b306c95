# The six usual mistakes of the README: each is made, says what the README's table has, and is mended by what the table
# says.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use ScreenshotTaskTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $readme = slurp_file("$FindBin::RealBin/../../README.md");
my $api    = LiveApi->new;
my $node   = ScreenshotTaskTest->start_new('main', shared_preload_libraries => '');

my ($set_up) = $readme =~ /^```sql\n(CREATE ROLE app .*?)^```$/ms;
my %statement = map { /^(CREATE ROLE|CREATE USER MAPPING|GRANT USAGE|GRANT INSERT)/ ? ($1 => $_) : () } $set_up =~ /^(\S.*?;)$/msg;
my ($request) = $readme =~ /^(INSERT INTO screenshot_task_request .*?)\n *RETURNING/ms;
my ($watch)   = $readme =~ /^(SELECT .*? FROM screenshot_task_worker;)$/m;

# The table: what one sees, and the messages in it.
my ($table) = $readme =~ /^\| you see \|.*\n\|[-|]+\n((?:\|.*\n)+)/m;
my @rows = map { (split / *\| */)[1] } split /\n/, $table;
my %to_be_seen = map { ($_ => 1) } map { /`([^`]+)`/g } @rows;

# A text has what the README says that one sees, in one or in several pieces of it.
sub seen
{
	my ($message, $text, $what) = @_;

	ok(delete $to_be_seen{$message}, "the README has: $message");
	like($text // '', qr/\Q${\($message =~ s{\.\.\.$}{}r)}\E/, $what);
	return;
}

# The message of the error, as role app.
sub app { return $node->try($_[0], user => 'app')->{error}{message} }

# What the view shows as soon as there is a pause.
sub paused
{
	ok($node->poll_query_until('postgres', q{SELECT paused IS NOT NULL FROM screenshot_task_worker}), 'something is paused');
	return join ' ', map { map { $_ // '' } @$_ } @{ $node->try($watch)->{rows} };
}

sub all_are_created
{
	my ($what) = @_;

	ok($node->wait_for_table("status = 'created'"), $what);
	$node->safe_psql('postgres', 'TRUNCATE screenshot_task_request');
	return;
}

$node->safe_psql('postgres', $statement{'CREATE ROLE'} . 'CREATE SERVER tencent_live FOREIGN DATA WRAPPER tencent_cloud OPTIONS (request_timeout \'2s\', endpoint '
	  . literal($api->endpoint) . ', ca_file ' . literal($api->ca_file) . ')');

# A privilege is missing.
seen('permission denied for table screenshot_task_request', app($request), 'no INSERT on the table');
$node->safe_psql('postgres', $statement{'GRANT INSERT'});
seen('permission denied for foreign server tencent_live', app($request), 'no USAGE on the server');
$node->safe_psql('postgres', $statement{'GRANT USAGE'});
is(app($request), undef, 'with both, a request is inserted');

# The library is not preloaded.
my $not_preloaded = 'screenshot_task must be loaded via "shared_preload_libraries"';
is($node->try($watch)->{error}{message}, $not_preloaded, 'the view says that the library is not preloaded');
seen($not_preloaded, app('SELECT wait_for_screenshot_task(id) FROM screenshot_task_request'), 'as does whoever waits');
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'screenshot_task'");
$node->restart;

# There is no user mapping.
seen('role app has no user mapping for server "tencent_live"', paused(), 'a worker runs, and has no key');
$node->safe_psql('postgres', $statement{'CREATE USER MAPPING'});
all_are_created('a user mapping, and what waited is created');

# The key is wrong; the account may not do this.
my ($key) = $statement{'CREATE USER MAPPING'} =~ /(secret_key '[^']*')/;
$node->safe_psql('postgres', q{ALTER USER MAPPING FOR app SERVER tencent_live OPTIONS (SET secret_key 'wrong')});
is(app($request), undef, 'a request, with a wrong key');
seen('AuthFailure...', paused(), 'the API refuses it');
my ($code) = $node->safe_psql('postgres', 'SELECT last_error FROM screenshot_task_worker') =~ /^([\w.]+)/;
like(slurp_file("$FindBin::RealBin/../../docs/reference.md"), qr/^### Refused credentials\n.*?^\| .*`\Q$code\E`.* \|/ms, "the page that the README links to has $code");
$node->safe_psql('postgres', "ALTER USER MAPPING FOR app SERVER tencent_live OPTIONS (SET $key)");
all_are_created('the right key, and what waited is created');
$api->order(fault => 'error=UnauthorizedOperation', stream => '*', times => 1);
is(app($request), undef, 'a request that the account may not make');
seen('UnauthorizedOperation...', paused(), 'the API says so');
$node->reload;
all_are_created('the account may, and what waited is created');

# The API is not reached.
my $closed = PostgreSQL::Test::Cluster::get_free_port();
for my $fault (
	[ 'could not connect to',          "SET endpoint 'https://127.0.0.1:$closed'" ],
	[ 'could not look up',             "SET endpoint 'https://live.screenshot-task.invalid'" ],
	[ 'could not negotiate TLS with',  "DROP ca_file" ])
{
	my ($message, $option) = @$fault;

	$node->safe_psql('postgres', "ALTER SERVER tencent_live OPTIONS ($option)");
	is(app($request), undef, 'a request');
	seen($message, paused(), "with $option");
	like($node->safe_psql('postgres', 'SELECT error_message FROM screenshot_task_request'), qr/^\Q$message\E/, 'and the request says so, too');
	$node->safe_psql('postgres', 'ALTER SERVER tencent_live OPTIONS (' . ($option =~ /^DROP/ ? 'ADD ca_file ' . literal($api->ca_file) : 'SET endpoint ' . literal($api->endpoint)) . ')');
	all_are_created('with the right option, what waited is created');
}

# There is no such template.
is(app($request =~ s/\b20001\b/999999/r), undef, 'a request with a template that there is not');
ok($node->wait_for_table, 'it is sent');
seen('created', $node->safe_psql('postgres', 'SELECT status FROM screenshot_task_request'), 'and gets a task');

is(scalar @rows, 6, 'the README has six mistakes');
is_deeply([ sort keys %to_be_seen ], [], 'and all that it says one sees has been seen');

done_testing();
