# A PostgreSQL server with screenshot_task, and SQL on it.
#
#   my $node = ScreenshotTaskTest->start_new('main');
#   $node->add_server('tencent_live', $api, request_timeout => '2s');
#   my $result = $node->try(call_sql(stream_name => 'abc'));
#
# A result is a hash: `rows`, an array of arrays of texts, and `error`, undef or a hash of severity,
# sqlstate, message, detail, hint and context.

package ScreenshotTaskTest;

use strict;
use warnings;

use parent 'PostgreSQL::Test::Cluster';

use Cwd qw(abs_path);
use Encode qw(encode_utf8 decode_utf8);
use Exporter 'import';
use File::Basename qw(dirname);
use File::Path qw(make_path);
use JSON::PP;
use LiveApi;
use PostgreSQL::Test::Utils ();

our @EXPORT = (qw(call_sql insert_sql literal), @LiveApi::EXPORT);

# Nothing in a test is found by the sweep: what passes was woken for.  What is in doubt stays so.
my %settings = (
	shared_preload_libraries         => 'screenshot_task',
	'screenshot_task.sweep_interval' => '1h',
	'screenshot_task.reconcile_grace' => '1h',
	max_connections                  => 60,
	max_worker_processes             => 20,
	autovacuum                       => 'off');

# Make a server and start it, with the extension in database postgres.  Given are settings; and `install_path`, if it is
# of another PostgreSQL.
sub start_new
{
	my ($class, $name, %conf) = @_;
	my @install = exists $conf{install_path} ? (install_path => delete $conf{install_path}) : ();
	my $node = $class->new($name, @install);
	my %all  = (%settings, %conf);

	$node->init(extra => [ '--encoding=UTF8', '--locale=C' ]);
	$node->append_conf('postgresql.conf', join "\n", map { "$_ = '$all{$_}'" } sort keys %all);
	$node->start;
	$node->safe_psql('postgres', 'CREATE EXTENSION screenshot_task');
	return $node;
}

# Build the tree with variables of make, and install it into a copy of PostgreSQL.  Returns where that is, for
# `install_path`.
sub build
{
	my (@variables) = @_;
	my $root = PostgreSQL::Test::Utils::tempdir('build');
	my $tree = dirname(dirname(dirname(abs_path(__FILE__))));
	my %ask  = map { my $answer = `pg_config --$_`; chomp $answer; ($_ => abs_path($answer)) } qw(bindir sharedir includedir includedir-server pkglibdir);

	for my $path (sort { length $a <=> length $b } dirname($ask{bindir}), @ask{qw(sharedir includedir includedir-server pkglibdir)})
	{
		next if -e "$root$path";
		make_path(dirname("$root$path"));
		PostgreSQL::Test::Utils::system_or_bail('cp', '-a', $path, "$root$path");
	}
	mkdir "$root/tree" or die "could not make $root/tree: $!";
	PostgreSQL::Test::Utils::system_or_bail('cp', '-a', (map { "$tree/$_" } qw(Makefile src screenshot_task.control)), glob("$tree/*.sql"), "$root/tree");
	unlink glob("$root/tree/src/*.o"), glob("$root/tree/src/*/*.o");
	local %ENV = %ENV;
	delete @ENV{ grep { /^(?:MAKE|PG_)/ } keys %ENV };
	PostgreSQL::Test::Utils::system_or_bail('make', '-s', '-C', "$root/tree", "PG_CONFIG=$root$ask{bindir}/pg_config", @variables, 'with_llvm=no', $_) for 'all', 'install';
	return $root . dirname($ask{bindir});
}

# Change settings, and reload.
sub set
{
	my ($node, %conf) = @_;

	$node->append_conf('postgresql.conf', join "\n", map { "$_ = '$conf{$_}'" } sort keys %conf);
	$node->reload;
	return;
}

# Put a trigger on the table that raises "not ..." for the rows of a condition: for what it says, of NEW.
sub refuse
{
	my ($node, $condition, $what) = @_;

	$node->safe_psql('postgres', "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS \$\$ BEGIN
			IF $condition THEN
				RAISE EXCEPTION 'not %', $what;
			END IF;
			RETURN NEW;
		END \$\$;
		CREATE TRIGGER refuse BEFORE UPDATE ON screenshot_task_request FOR EACH ROW EXECUTE FUNCTION refuse()");
	return;
}

# Create a foreign server for a stand-in, and a user mapping for everyone.  Options of the server are
# given as such; besides them `dbname`, and `account`: [secret_id, secret_key, token], or undef for no
# mapping.  Servers of different ca_files have connections of their own.  Templates are checked where a test is about
# that: what others count are the requests that they made.
sub add_server
{
	my ($node, $name, $api, %options) = @_;
	my $dbname  = delete $options{dbname} // 'postgres';
	my $account = exists $options{account} ? delete $options{account} :
	  [ LiveApi::SECRET_ID, LiveApi::SECRET_KEY ];

	%options = (endpoint => $api->endpoint, ca_file => $api->ca_file, check_template => 'off', %options);
	my $sql = "CREATE SERVER $name FOREIGN DATA WRAPPER tencent_cloud OPTIONS ("
	  . join(', ', map { "$_ " . literal($options{$_}) } sort keys %options) . ");\n";
	$sql .= "CREATE USER MAPPING FOR PUBLIC SERVER $name OPTIONS (" . account_options(@$account) . ");\n"
	  if $account;
	$node->safe_psql($dbname, $sql);
	return;
}

sub account_options
{
	my ($id, $key, $token) = @_;

	return "secret_id " . literal($id) . ", secret_key " . literal($key)
	  . (defined $token ? ", token " . literal($token) : '');
}

# Run SQL, and wait for its end.
sub try
{
	my ($node, $sql, %params) = @_;

	return $node->begin($sql, %params)->end;
}

# Run SQL in a session of its own; end() waits for its end and returns the result.
# `dbname` and `user` say where and as whom.
sub begin
{
	my ($node, $sql, %params) = @_;

	return ScreenshotTaskTest::Session->new($node->connstr($params{dbname} // 'postgres')
		  . ($params{user} ? " user=$params{user}" : ''), $sql);
}

# The rows of a query, each a hash.
sub rows
{
	my ($node, $query, %params) = @_;
	my $json = $node->safe_psql($params{dbname} // 'postgres',
		encode_utf8("SELECT coalesce(json_agg(r), '[]') FROM ($query) AS r"));

	return @{ JSON::PP->new->utf8->decode($json) };
}

# The requests of the table, in order.
sub table
{
	my ($node, $where, %params) = @_;

	return $node->rows('SELECT * FROM screenshot_task_request WHERE ' . ($where // 'true') . ' ORDER BY id',
		%params);
}

# Wait until no request of the table is pending or being sent, or until a condition holds for all of them.
sub wait_for_table
{
	my ($node, $condition, %params) = @_;

	$condition //= "status NOT IN ('pending', 'sending')";
	return $node->poll_query_until($params{dbname} // 'postgres',
		"SELECT coalesce(bool_and($condition), false) FROM screenshot_task_request"
		  . ($params{where} ? " WHERE $params{where}" : ''));
}

sub worker_pid
{
	my ($node, $dbname) = @_;
	$dbname //= 'postgres';
	my $query = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'screenshot_task worker' AND datname = '$dbname'";

	$node->poll_query_until('postgres', "SELECT EXISTS ($query)") or die "no worker in $dbname";
	return $node->safe_psql('postgres', $query);
}

# How many transactions of database postgres end in a second, seen for some.  The time that it takes to ask counts, too.
sub transactions_a_second
{
	my ($node, $seconds) = @_;
	my $query = q{SELECT xact_commit + xact_rollback, extract(epoch FROM clock_timestamp()) FROM pg_stat_database WHERE datname = 'postgres'};
	my @seen;

	for (1, 2)
	{
		push @seen, [ split /\|/, $node->safe_psql('template1', $query) ];
		sleep $seconds if @seen == 1;
	}
	return ($seen[1][0] - $seen[0][0]) / ($seen[1][1] - $seen[0][1]);
}

# Everything the server has logged; from an offset on.
sub log_text
{
	my ($node, $offset) = @_;

	return PostgreSQL::Test::Utils::slurp_file($node->logfile, $offset // 0);
}

sub log_size { return -s $_[0]->logfile }

# ---------------------------------------------------------------------------------------------- SQL

sub literal
{
	my ($value) = @_;

	return $$value if ref $value;                   # an expression
	return 'NULL' unless defined $value;
	return "'" . $value =~ s/'/''/gr . "'";
}

my %defaults = (
	stream_name => 'live',
	domain_name => '5000.live.push.com',
	app_name    => 'live',
	end_time    => \"now() + interval '1 hour'",
	template_id => 20001);

# A call of create_screenshot_task; given parameters replace the defaults, references are expressions.
sub call_sql
{
	my %task = (%defaults, @_);

	return 'SELECT * FROM create_screenshot_task('
	  . join(', ', map { "$_ => " . literal($task{$_}) } sort keys %task) . ");\n";
}

# An INSERT of a request; with `rows`, of so many, where expressions may use i.
sub insert_sql
{
	my %task = (%defaults, @_);
	my $rows = delete $task{rows} // 1;
	my @columns = sort keys %task;

	return 'INSERT INTO screenshot_task_request (' . join(', ', @columns) . ') SELECT '
	  . join(', ', map { literal($task{$_}) } @columns) . " FROM generate_series(1, $rows) AS i;\n";
}

# ----------------------------------------------------------------------------------------- Sessions

package ScreenshotTaskTest::Session;

use Encode qw(encode_utf8 decode_utf8);

my $sessions = 0;
my $directory;

sub new
{
	my ($class, $connstr, $sql) = @_;
	$directory //= PostgreSQL::Test::Utils::tempdir('session');
	my $base = "$directory/" . ++$sessions;
	my $self = bless { base => $base }, $class;

	open my $file, '>', "$base.sql" or die "could not open $base.sql: $!";
	print $file encode_utf8($sql);
	close $file or die "could not write $base.sql: $!";
	$self->{pid} = LiveApi::spawn(
		[ 'psql', '-XAtq', '-F', "\t", '-d', $connstr, '-v', 'VERBOSITY=verbose', '-f', "$base.sql" ],
		"$base.out", "$base.err");
	return $self;
}

sub end
{
	my ($self) = @_;

	LiveApi::end_process(undef, $self->{pid});
	my ($out, $err) =
	  map { decode_utf8(PostgreSQL::Test::Utils::slurp_file("$self->{base}.$_")) } qw(out err);
	return {
		rows  => [ map { [ split /\t/, $_, -1 ] } split /\n/, $out ],
		error => first_error($err) };
}

sub first_error
{
	my ($text) = @_;
	my $label = qr/^(?:DETAIL|HINT|CONTEXT|LOCATION|LINE \d+|STATEMENT|server closed|psql:\S+):? /m;

	$text =~ /(ERROR|FATAL|PANIC):  (\w{5}): (.*?)\n(?=$label|\z)/ms
	  or return $text =~ /^psql: error/m ? { message => $text } : undef;
	my %error = (severity => $1, sqlstate => $2, message => $3);
	$text = substr $text, $+[3];
	$text =~ s/\n^psql:\S+?:\d+: (?:ERROR|FATAL).*//ms;
	for my $part (qw(detail hint context))
	{
		my $name = uc $part;
		$error{$part} = $text =~ /^$name:  (.*?)\n(?=$label|\z)/ms ? $1 : undef;
	}
	return \%error;
}

1;
