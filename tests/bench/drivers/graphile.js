// graphile-worker's driver: the verbs of drivers/__main__.py, the tally of drivers/tally.py.
// It runs with its fastest settings: a local queue, and completions gathered without delay.
const fs = require("fs");
const path = require("path");
const { makeWorkerUtils, runMigrations, runTaskList, Logger } = require("graphile-worker");
const { Pool } = require("pg");

const STEP = 1000, STAMPS = 4096, SLOTS = 4096, FIRST_STAMP = 2, FIRST_SLOT = FIRST_STAMP + STAMPS;
const WARM_UP = 30, FLUSH_MS = 5;
const logger = new Logger(() => (level, message) => { if (level === "error") console.error(message); });
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

function makeTick(folder) {
  const cells = new BigInt64Array(FIRST_SLOT + SLOTS);
  const file = fs.openSync(path.join(folder, String(process.pid)), "w+");
  const write = (from, count) => fs.writeSync(file, new Uint8Array(cells.buffer, from * 8, count * 8), 0, count * 8, from * 8);
  let count = 0, written = 0, numbered = false;
  const flush = () => {
    if (count === written) return;
    written = count;
    cells[0] = BigInt(count);
    write(0, numbered ? cells.length : FIRST_SLOT);
    numbered = false;
  };
  write(0, cells.length);
  setInterval(flush, FLUSH_MS);
  return (number) => {
    if (count === 0) cells[1] = process.hrtime.bigint();
    if (number >= 0 && number < SLOTS && !cells[FIRST_SLOT + number]) {
      cells[FIRST_SLOT + number] = process.hrtime.bigint();
      numbered = true;
    }
    count++;
    if (count % STEP === 0 && count < STEP * STAMPS) cells[FIRST_STAMP + count / STEP] = process.hrtime.bigint();
  };
}

async function work(url, concurrency, folder) {
  const tick = makeTick(folder);
  const pool = new Pool({ connectionString: url, max: concurrency + 1 });
  pool.on("error", () => {});
  const worker = {
    concurrentJobs: concurrency, maxPoolSize: concurrency + 1,
    localQueue: { size: 500, refetchDelay: { durationMs: 10 } },
    completeJobBatchDelay: 0, failJobBatchDelay: 0,
  };
  await (await runTaskList({ preset: { worker }, logger }, { noop: async ({ i }) => { tick(i); } }, pool)).promise;
}

async function produce(verb, url, arguments_) {
  const utils = await makeWorkerUtils({ connectionString: url, maxPoolSize: 1, logger });
  const one = (i) => utils.addJob("noop", { i });
  let answer;
  if (verb === "many") {
    const jobs = Array.from({ length: Number(arguments_[0]) }, (_, i) => ({ identifier: "noop", payload: { i } }));
    const began = performance.now();
    await utils.addJobs(jobs);
    answer = { count: jobs.length, seconds: (performance.now() - began) / 1000 };
  } else {
    for (let i = 0; i < WARM_UP; i++) { await one(-1); await sleep(verb === "paced" ? 10 : 0); }
    answer = verb === "one" ? await forSeconds(one, Number(arguments_[0])) : await paced(one, ...arguments_.map(Number));
  }
  console.log(JSON.stringify(answer));
  await utils.release();
}

async function forSeconds(one, seconds) {
  const began = performance.now();
  let count = 0;
  for (; performance.now() - began < seconds * 1000; count++) await one(-1);
  return { count, seconds: (performance.now() - began) / 1000 };
}

async function paced(one, count, everyS) {
  const committed = [];
  await sleep(500);
  let next = performance.now();
  for (let i = 0; i < count; i++) {
    next += everyS * 1000;
    await sleep(Math.max(0, next - performance.now()));
    await one(i);
    committed.push(Number(process.hrtime.bigint()));
  }
  return { committed };
}

async function main(verb, url, ...arguments_) {
  if (verb === "setup") await runMigrations({ connectionString: url, logger });
  else if (verb === "work") await work(url, Number(arguments_[0]), arguments_[1]);
  else await produce(verb, url, arguments_);
}

main(...process.argv.slice(2)).then(() => process.exit(0), (error) => { console.error(error); process.exit(1); });
