// What people use instead: graphile-worker and pg-boss, with the vendor's SDK.
//
//   node others.js graphile|pgboss setup|drain|latency
//
// "setup" makes the schema and ends.  The other two say "ready", and run jobs until they are killed: with the settings
// that drain a backlog fastest, or those that begin a job soonest.  DATABASE, ENDPOINT (host:port) and CA_FILE are taken
// from the environment.

const fs = require("fs");
const https = require("https");

const [system, purpose] = process.argv.slice(2);
const { DATABASE, ENDPOINT, CA_FILE } = process.env;
const concurrency = 50;

const { Client } = require("tencentcloud-sdk-nodejs/tencentcloud/services/live/v20180801/live_client");
const client = new Client({
	credential: { secretId: "AKIDEXAMPLE", secretKey: "Gu5t9xGARNpq86cd98joQYCN3EXAMPLE" },
	profile: {
		httpProfile: {
			endpoint: ENDPOINT,
			agent: new https.Agent({ keepAlive: true, maxSockets: concurrency, ca: fs.readFileSync(CA_FILE) }),
		},
	},
});

async function create(request) {
	const { TaskId } = await client.CreateScreenshotTask(request);
	if (!TaskId) throw new Error("no TaskId");
}

async function graphile() {
	const { Logger, run, runMigrations } = require("graphile-worker");
	const { Pool } = require("pg");
	const pgPool = new Pool({ connectionString: DATABASE, max: 10 });
	for (const event of ["error", "connect"])
		pgPool.on(event, (problem) => event === "error" ? console.error(problem) : problem.on("error", console.error));
	const options = {
		pgPool,
		logger: new Logger(() => (level, message) => level === "error" && console.error(message)),
	};
	if (purpose === "setup") {
		await runMigrations(options);
		return pgPool.end();
	}
	if (purpose === "drain")
		options.preset = { worker: { localQueue: { size: 500 }, completeJobBatchDelay: 0 } };
	await run({ ...options, concurrency, noHandleSignals: true, taskList: { create } });
	console.log("ready");
}

async function pgboss() {
	const PgBoss = require("pg-boss");
	const boss = new PgBoss({ connectionString: DATABASE, max: 10, supervise: false, schedule: false });
	boss.on("error", console.error);
	await boss.start();
	if (purpose === "setup") {
		await boss.createQueue("create");
		return boss.stop({ graceful: false });
	}
	const finish = async (jobs) => {
		const waiting = [...jobs];
		const worker = async () => {
			while (waiting.length > 0) await create(waiting.shift().data);
		};
		await Promise.all(Array.from({ length: concurrency }, worker));
	};
	if (purpose === "latency") await boss.work("create", { batchSize: 100, pollingIntervalSeconds: 0.5 }, finish);
	else for (let i = 0; i < 2; i++) fetchForEver(boss, finish);
	console.log("ready");
}

// work() waits for half a second between two batches; this does not while there are any.
async function fetchForEver(boss, finish) {
	for (;;) {
		const jobs = await boss.fetch("create", { batchSize: 500, priority: false });
		if (jobs.length === 0) {
			await new Promise((resolve) => setTimeout(resolve, 500));
			continue;
		}
		await finish(jobs);
		await boss.complete("create", jobs.map((job) => job.id));
	}
}

({ graphile, pgboss })[system]().catch((error) => {
	console.error(error);
	process.exit(1);
});
