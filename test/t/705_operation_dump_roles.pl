# Which role can dump what: as the table in docs/operation.md has it.  No dump is incomplete unless it was asked to be.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use ScreenshotTaskTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $api   = LiveApi->new;
my $node  = ScreenshotTaskTest->start_new('main', 'screenshot_task.enabled' => 'off');
my %users = (
	'superuser'                    => 'postgres',
	'owner of the table'           => 'table_owner',
	'role with `BYPASSRLS`'        => 'bypass',
	'owner of the database'        => 'database_owner',
	'member of `pg_read_all_data`' => 'reader',
	'any other role'               => 'app');
my @roles = sort grep { $_ ne 'postgres' } values %users;
my $secret = 'aKeyOf';

$node->safe_psql('postgres', join '', map { "CREATE ROLE $_ LOGIN;" } @roles);
$node->safe_psql('postgres', 'ALTER ROLE bypass BYPASSRLS; GRANT pg_read_all_data TO reader; CREATE DATABASE dumped OWNER database_owner');
$node->safe_psql('dumped', 'CREATE EXTENSION screenshot_task; ALTER TABLE screenshot_task_request OWNER TO table_owner');
$node->add_server('tencent_live', $api, dbname => 'dumped', account => undef);
for my $role ('postgres', @roles)
{
	$node->safe_psql('dumped', "GRANT USAGE ON FOREIGN SERVER tencent_live TO $role; GRANT INSERT ON screenshot_task_request TO $role;"
		  . "CREATE USER MAPPING FOR $role SERVER tencent_live OPTIONS (secret_id 'AKID$role', secret_key '$secret$role');"
		  . "SET ROLE $role;" . insert_sql(stream_name => $role, rows => 2));
}
my $last = $node->safe_psql('dumped', 'SELECT max(id) FROM screenshot_task_request');

my @lines = map { [ /\| (.*?) (?=\|)/g ] } grep { /^  \| / } split /\n/, slurp_file("$FindBin::RealBin/../../docs/operation.md");
my ($head, undef, @documented) = @lines;
is_deeply($head, [ 'role', '`pg_dump`', '`pg_dump --enable-row-security`' ], 'the page has a table');
is_deeply([ sort map { $_->[0] } @documented ], [ sort keys %users ], 'with each kind of role');
for my $line (@documented)
{
	my ($who, @expected) = @$line;

	is(dump_as($users{$who}), $expected[0], "$who: pg_dump");
	is(dump_as($users{$who}, '--enable-row-security'), $expected[1], "$who: pg_dump --enable-row-security");
}

done_testing();

# What is in a role's dump, in the words of the table
sub dump_as
{
	my ($user, @options) = @_;
	my ($dump, $error) = run_command([ 'pg_dump', @options, '-U', $user, '-d', $node->connstr('dumped') ]);

	return $error =~ /ERROR:  query would be affected by row-level security policy for table "screenshot_task_request"/ ? 'fails' : $error if $error;
	my ($rows) = $dump =~ /^COPY public\.screenshot_task_request [^\n]*\n(.*?)^\\\.$/ms;
	my %owners = map { ((split /\t/)[1] => 1) } split /\n/, $rows;
	like($dump, qr/setval\('public.screenshot_task_request_id_seq', $last, true\)/, "$user: has the last number");
	is_deeply([ sort $dump =~ /$secret(\w+)/g ], [ sort $user eq 'postgres' ? ('postgres', @roles) : $user ], "$user: and the keys that are its to see");
	return keys %owners == 1 + @roles ? 'all requests' : join(',', keys %owners) eq $user ? 'its own requests' : join ',', sort keys %owners;
}
