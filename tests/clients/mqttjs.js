// MQTT.js as an application uses it. Arguments: URL, protocol version, and for TLS the files of CA,
// certificate and key. Ends with 0 and a line that says what it has done.
import { readFileSync } from "node:fs";
import mqtt from "mqtt";

const [url, version, ca, cert, key] = process.argv.slice(2);
const v5 = version === "5";
const topic = `js/${process.pid}`;
const options = {
  protocolVersion: Number(version),
  clientId: `js-${process.pid}`,
  clean: false,
  properties: v5 ? { sessionExpiryInterval: 60 } : undefined,
  reconnectPeriod: 0,
  connectTimeout: 5000,
  ...(ca && { ca: readFileSync(ca), cert: readFileSync(cert), key: readFileSync(key) }),
};

function fail(why) {
  console.error(why);
  process.exit(1);
}
setTimeout(() => fail("nothing has come for 30 seconds"), 30000).unref();
process.on("unhandledRejection", fail);

// Large and small, text and bytes, each QoS.
const messages = [
  { payload: Buffer.from("small"), qos: 0 },
  { payload: Buffer.alloc(0), qos: 1 },
  { payload: Buffer.alloc(200000, "ü"), qos: 2 },
  { payload: Buffer.from([0, 255, 16, 0]), qos: 1 },
];

const client = await mqtt.connectAsync(url, options);
const granted = await client.subscribeAsync(`${topic}/#`, { qos: 2 });
if (granted[0].qos !== 2) fail(`granted ${JSON.stringify(granted)}`);
const received = new Promise((done) => {
  const found = new Set();
  // One of QoS 2 comes with its PUBREL: others may pass it.
  client.on("message", (name, payload, packet) => {
    const n = Number(name.slice(topic.length + 1));
    const sent = messages[n];
    if (found.has(n) || !payload.equals(sent.payload)) fail(`got ${name}`);
    if (packet.qos !== sent.qos) fail(`QoS ${packet.qos} instead of ${sent.qos}`);
    if (v5 && packet.properties.userProperties.n !== `${n}`) fail("a property is lost");
    found.add(n);
    if (found.size === messages.length) done();
  });
});
for (const [n, { payload, qos }] of messages.entries()) {
  const properties = v5 ? { userProperties: { n: `${n}` } } : undefined;
  await client.publishAsync(`${topic}/${n}`, payload, { qos, properties });
}
await received;
await client.endAsync();

// Its session waits, with what came while it was away.
const other = await mqtt.connectAsync(url, { ...options, clientId: `${options.clientId}-other` });
await other.publishAsync(`${topic}/away`, "while it was away", { qos: 1 });
await other.endAsync();
const back = mqtt.connect(url, options);
const present = new Promise((done) => back.on("connect", (ack) => done(ack.sessionPresent)));
const waited = new Promise((done) => back.on("message", (_, payload) => done(payload.toString())));
if (!(await present)) fail("the session is gone");
if ((await waited) !== "while it was away") fail("its message is gone");
await back.endAsync();
console.log("all done");
process.exit(0);
