// Makes and checks the shipped workflows in the real editor of a running ComfyUI.
//
//   node tools/browser.cjs build   [name ...]   graphs.cjs  -> workflows/<name>.json
//   node tools/browser.cjs blueprints           graphs.cjs  -> subgraphs/<title>.json
//   node tools/browser.cjs convert [name ...]   workflows/  -> tests/host/api/<name>.json
//   node tools/browser.cjs check   [name ...]   load each; fail on a missing node, a console error
//                                               or another API prompt than the committed one
//   node tools/browser.cjs run     [name ...]   queue each demo in the editor and wait for it
//   node tools/browser.cjs thumbs  [name ...]   the same, and make the thumbnails
//
// Needs playwright-core (`npm install playwright-core`, here or on NODE_PATH) and a Chromium.
// Environment: COMFYUI_URL (default http://127.0.0.1:8188), CHROMIUM (default: chromium on PATH),
// SHOTS (a folder for screenshots of every graph; none without it).
'use strict';

const crypto = require('node:crypto');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { chromium } = require('playwright-core');
const { workflows } = require('./graphs.cjs');

const ROOT = path.resolve(__dirname, '..');
const URL_ = process.env.COMFYUI_URL || 'http://127.0.0.1:8188';
const SHOTS = process.env.SHOTS;
const RUN_SECONDS = 300;
const VIRTUAL = ['Note', 'MarkdownNote', 'Reroute', 'PrimitiveNode'];
const FLAGS = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
  '--disable-background-networking', '--disable-component-update', '--disable-sync'];

function onPath(program) {
  if (path.isAbsolute(program)) return program;
  const found = (process.env.PATH || '').split(path.delimiter)
    .map((folder) => path.join(folder, program)).find((file) => fs.existsSync(file));
  if (!found) throw new Error(`no ${program} on PATH: set CHROMIUM to a Chromium or Chrome`);
  return found;
}

const folder = (name) => path.join(ROOT, 'workflows', workflows.find((each) => each.name === name).folder || '');
const shipped = (name) => path.join(folder(name), `${name}.json`);
const prompt = (name) => path.join(ROOT, 'tests', 'host', 'api', `${name}.json`);
const thumbnail = (name) => path.join(folder(name), `${name}.jpg`);
// The pack as the registry knows it: the editor offers to install it where its nodes are missing.
const [, ID] = fs.readFileSync(path.join(ROOT, 'pyproject.toml'), 'utf8').match(/^name = "(.+)"$/m);
const [, VERSION] = fs.readFileSync(path.join(ROOT, 'pyproject.toml'), 'utf8').match(/^version = "(.+)"$/m);
const read = (file) => JSON.parse(fs.readFileSync(file, 'utf8'));

function write(file, value) {
  fs.mkdirSync(path.dirname(file), { recursive: true });
  fs.writeFileSync(file, `${JSON.stringify(value, null, 1)}\n`);
}

// The same name gives the same id, so that building again changes nothing.
function uuid(name) {
  const h = crypto.createHash('sha1').update(`flowdps:${name}`).digest('hex');
  return `${h.slice(0, 8)}-${h.slice(8, 12)}-5${h.slice(13, 16)}-a${h.slice(17, 20)}-${h.slice(20, 32)}`;
}

// ---- Functions that run in the page ------------------------------------------------------------

function buildInPage(spec) {
  const graph = app.graph;
  graph.clear();
  const made = {};
  const find = (list, name) => list.findIndex((slot) => slot.name === name);
  for (const { title, box, color } of spec.groups) {
    const group = new LiteGraph.LGraphGroup(title);
    group.pos = [box[0], box[1]];
    group.size = [box[2], box[3]];
    group.color = color;
    graph.add(group);
  }
  for (const [title, place, text] of spec.notes) {
    const note = LiteGraph.createNode('MarkdownNote');
    graph.add(note);
    note.title = title;
    note.pos = [place[0], place[1]];
    note.setSize([place[2], place[3]]);
    note.widgets[0].value = text;
    note.color = '#432';
    note.bgcolor = '#653';
  }
  for (const [key, type, place, { title, set = {}, from = {}, models }] of spec.nodes) {
    const node = LiteGraph.createNode(type);
    if (!node) throw new Error(`${spec.name}: no node type ${type}`);
    graph.add(node);
    made[key] = node;
    if (title) node.title = title;
    if (models) node.properties.models = models;
    node.pos = [place[0], place[1]];
    for (const [name, value] of Object.entries(set)) {
      const widget = node.widgets?.find((each) => each.name === name);
      if (!widget) throw new Error(`${spec.name}: ${type} has no widget ${name}`);
      widget.value = value;
    }
    for (const [input, [source, output]] of Object.entries(from)) {
      // A Reroute's only slots have names of their own in each version.
      const slot = output ? find(made[source].outputs, output) : 0;
      const target = input ? find(node.inputs, input) : 0;
      if (slot < 0 || target < 0) throw new Error(`${spec.name}: no link ${source}.${output} -> ${key}.${input}`);
      made[source].connect(slot, node, target);
    }
    const height = place[3] || node.computeSize()[1];
    node.setSize([place[2], height]);
  }
  const form = spec.app && {
    inputs: spec.app.inputs.map(([key, widget]) => [made[key].id, widget]),
    outputs: spec.app.outputs.map((key) => made[key].id),
  };
  const ids = Object.fromEntries(Object.entries(made).map(([key, node]) => [key, node.id]));
  return { made: graph.serialize(), form, ids };
}

// What is left of the open graph once some of its nodes have become one, with inputs and outputs where
// links went, and the rest is gone.
function wrapInPage({ ids, title }) {
  const { graph } = app;
  const { subgraph, node } = graph.convertToSubgraph(new Set(ids.map((id) => graph.getNodeById(id))));
  subgraph.name = title;
  node.title = title;
  for (const other of [...graph.nodes]) if (other !== node) graph.remove(other);
  for (const group of [...graph.groups]) graph.remove(group);
  node.pos = [0, 0];
  return graph.serialize();
}

async function loadInPage(workflow) {
  await app.loadGraphData(workflow, true, false);
  const missing = app.graph.nodes.filter((n) => !LiteGraph.registered_node_types[n.type]).map((n) => n.type);
  const { output } = await app.graphToPrompt();
  const dialogs = [...document.querySelectorAll('.p-dialog, [role=dialog]')].map((d) => d.innerText.slice(0, 200));
  return { missing, output, dialogs };
}

// The rectangle of the graph, in graph units.
function extentInPage() {
  const boxes = [
    ...app.graph.nodes.map((n) => [n.pos[0], n.pos[1] - 30, n.pos[0] + n.size[0], n.pos[1] + n.size[1]]),
    ...app.graph.groups.map((g) => [g.pos[0], g.pos[1], g.pos[0] + g.size[0], g.pos[1] + g.size[1]]),
  ];
  const pick = (how, i) => how(...boxes.map((box) => box[i]));
  return [pick(Math.min, 0), pick(Math.min, 1), pick(Math.max, 2), pick(Math.max, 3)];
}

// Puts the graph's corner at a place on the page.
function placeInPage({ left, top, x, y, scale }) {
  const canvas = app.canvas;
  const rect = canvas.canvas.getBoundingClientRect();
  canvas.low_quality_zoom_threshold = 0;
  canvas.deselectAll?.();
  canvas.ds.scale = scale;
  canvas.ds.offset[0] = (x - rect.left) / scale - left;
  canvas.ds.offset[1] = (y - rect.top) / scale - top;
  canvas.setDirty(true, true);
}

async function collageInPage({ parts, side }) {
  const images = await Promise.all(parts.map(async ({ url }) => {
    const image = new Image();
    image.src = url;
    await image.decode();
    return image;
  }));
  const across = parts.length > 3 ? 2 : parts.length;
  // A picture alone is as wide as three; all have the shape of the first.
  const wide = parts.length > 1 ? side : 3 * side;
  const high = Math.round(wide * images[0].height / images[0].width);
  const canvas = document.createElement('canvas');
  canvas.width = across * wide;
  canvas.height = Math.ceil(parts.length / across) * high;
  const pen = canvas.getContext('2d');
  images.forEach((image, i) => {
    const [x, y] = [(i % across) * wide, Math.floor(i / across) * high];
    pen.imageSmoothingEnabled = image.width >= 128;
    pen.imageSmoothingQuality = 'high';
    pen.drawImage(image, x, y, wide, high);
    pen.font = '600 17px sans-serif';
    const width = pen.measureText(parts[i].label).width + 16;
    pen.fillStyle = 'rgba(0, 0, 0, 0.55)';
    pen.fillRect(x, y + high - 28, width, 28);
    pen.fillStyle = '#fff';
    pen.fillText(parts[i].label, x + 8, y + high - 9);
  });
  return canvas.toDataURL('image/jpeg', 0.88);
}

async function shrinkInPage({ data, width, title }) {
  const image = new Image();
  image.src = data;
  await image.decode();
  const canvas = document.createElement('canvas');
  canvas.width = width;
  canvas.height = Math.round((width * image.height) / image.width);
  const pen = canvas.getContext('2d');
  pen.imageSmoothingQuality = 'high';
  pen.drawImage(image, 0, 0, canvas.width, canvas.height);
  const bar = 76;
  pen.fillStyle = 'rgba(0, 0, 0, 0.72)';
  pen.fillRect(0, canvas.height - bar, width, bar);
  pen.fillStyle = '#fff';
  pen.font = '600 40px sans-serif';
  pen.fillText(title, 24, canvas.height - 24, width - 48);
  return canvas.toDataURL('image/jpeg', 0.85);
}

// ---- Commands ----------------------------------------------------------------------------------

async function open() {
  const profile = fs.mkdtempSync(path.join(os.tmpdir(), 'flowdps-browser-'));
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: onPath(process.env.CHROMIUM || 'chromium'),
    args: FLAGS,
    viewport: { width: 1600, height: 1000 },
  });
  const page = context.pages()[0] || await context.newPage();
  const errors = [];
  page.on('console', (message) => message.type() === 'error'
    && errors.push(`${message.text()} ${message.location().url || ''}`));
  page.on('pageerror', (error) => errors.push(String(error)));
  await page.goto(URL_, { waitUntil: 'domcontentloaded' });
  await page.waitForFunction(
    () => window.app?.graph && window.LiteGraph?.registered_node_types.FlowDPS_Sigmas,
    null, { timeout: 180_000 },
  );
  await page.waitForTimeout(3000);
  await page.keyboard.press('Escape'); // The template browser greets a new profile.
  await page.waitForTimeout(500);
  await page.evaluate(() => app.ui.settings.setSettingValue('Comfy.Minimap.Visible', false));
  const { system } = await page.evaluate(() => fetch('/api/system_stats').then((r) => r.json()));
  errors.length = 0; // Start-up asks for user files that a fresh server does not have.
  return {
    page, errors, version: system.comfyui_version,
    close: async () => {
      await context.close();
      fs.rmSync(profile, { recursive: true, force: true });
    },
  };
}

// A picture of the graph alone, as PNG; with a scale below 0.75 values are hard to read.
async function shot(page, file, scale = 0.75) {
  const [left, top, right, bottom] = await page.evaluate(extentInPage);
  const [width, height] = [right - left + 40, bottom - top + 40].map((n) => Math.ceil(n * scale));
  const margin = 140; // The menus lie there, over the canvas.
  await page.setViewportSize({ width: width + 2 * margin, height: height + 2 * margin });
  await page.waitForTimeout(500);
  await page.evaluate(placeInPage, { left: left - 20, top: top - 20, x: margin, y: margin, scale });
  await page.waitForTimeout(1200);
  const data = await page.screenshot({ clip: { x: margin, y: margin, width, height } });
  if (file) {
    fs.mkdirSync(path.dirname(file), { recursive: true });
    fs.writeFileSync(file, data);
  }
  return data;
}

const bytes = (dataUrl) => Buffer.from(dataUrl.split(',')[1], 'base64');

// Gives a node the pack that it comes from.
const named = (core) => (node) => {
  if (node.type === 'MarkdownNote') return;
  const [id, version] = node.type.startsWith('FlowDPS_') ? [ID, VERSION] : ['comfy-core', core];
  node.properties = { ...node.properties, cnr_id: id, ver: version };
};

async function blueprints({ page, version }) {
  for (const spec of workflows.filter((each) => each.blueprint)) {
    const { title, nodes, description } = spec.blueprint;
    const { ids } = await page.evaluate(buildInPage, spec);
    const made = await page.evaluate(wrapInPage, { title, ids: nodes.map((key) => ids[key]) });
    made.definitions.subgraphs.forEach((subgraph) => {
      subgraph.nodes.forEach(named(version));
    });
    made.extra = { ...made.extra, BlueprintDescription: description.replace(/\n/g, ' ') };
    write(path.join(ROOT, 'subgraphs', `${title}.json`), made);
    console.log(`wrapped ${title}: ${made.definitions.subgraphs[0].nodes.length} nodes`);
  }
  return [];
}

async function build({ page, version }, names) {
  for (const spec of workflows.filter((each) => names.includes(each.name))) {
    const { made, form } = await page.evaluate(buildInPage, spec);
    made.id = uuid(spec.name);
    // App mode shows these inputs and outputs as a form; older editors know nothing of it.
    made.extra = { ds: { scale: 0.75, offset: [40, 100] }, ...(form ? { linearData: form } : {}) };
    made.nodes.forEach(named(version));
    // A form has no field for an input that its node hides.
    spec.nodes.forEach(([, , , { advanced }], i) => {
      if (advanced) made.nodes.find(({ id }) => id === i + 1 + spec.notes.length).showAdvanced = true;
    });
    write(shipped(spec.name), made);
    console.log(`built ${spec.name}: ${made.nodes.length} nodes, ${made.links.length} links`);
  }
  return [];
}

async function convert({ page }, names) {
  for (const name of names) {
    const { output } = await page.evaluate(loadInPage, read(shipped(name)));
    write(prompt(name), output);
    console.log(`converted ${name}`);
  }
  return [];
}

// Where a prompt differs from the committed one. A newer version may add values to its own nodes.
function differences(committed, now) {
  const found = [];
  for (const id of new Set([...Object.keys(committed), ...Object.keys(now)])) {
    const [was, is] = [committed[id], now[id]];
    if (was?.class_type !== is?.class_type) {
      found.push(`node ${id} was ${was?.class_type} and is ${is?.class_type}`);
      continue;
    }
    const names = new Set([...Object.keys(was.inputs), ...Object.keys(is.inputs)]);
    for (const name of names) {
      const added = !(name in was.inputs) && !is.class_type.startsWith('FlowDPS_');
      if (added || is.class_type === 'PreviewAny' && name.startsWith('preview')) continue;
      const [old, value] = [was.inputs[name], is.inputs[name]].map((each) => JSON.stringify(each));
      if (old !== value) found.push(`node ${id} (${is.class_type}): ${name} was ${old} and is ${value}`);
    }
  }
  return found;
}

// Where a model is missing, the editor offers its download, and asks its address how large it is.
const offered = (text) => /Missing Models|missingModelMetadata|fetchFileSize|huggingface\.co/.test(text);

async function check({ page, errors, version }, names) {
  const faults = [];
  for (const name of names) {
    const { missing, output, dialogs } = await page.evaluate(loadInPage, read(shipped(name)));
    await page.waitForTimeout(500);
    const found = [
      ...missing.map((type) => `missing node ${type}`),
      ...dialogs.filter((text) => !offered(text)).map((text) => `dialog: ${text.replace(/\s+/g, ' ')}`),
      ...errors.filter((text) => !offered(text)).map((text) => `console: ${text}`),
    ];
    found.push(...differences(read(prompt(name)), output));
    errors.length = 0;
    if (SHOTS) await shot(page, path.join(SHOTS, `${name}-${version}.png`));
    console.log(`${found.length ? 'FAILED' : 'ok'} ${name}`);
    faults.push(...found.map((text) => `${name}: ${text}`));
  }
  return faults;
}

async function run({ page, errors, version }, names, keep = false) {
  const faults = [];
  for (const spec of workflows.filter((each) => names.includes(each.name))) {
    const { name } = spec;
    await page.evaluate(loadInPage, read(shipped(name)));
    if (typeof spec.thumb === 'string' || spec.thumb.of) {
      if (!keep) continue;
      // What cannot run here is shown by the result of another workflow, which the title names, or by its graph.
      const { of, title = spec.thumb } = spec.thumb;
      const [kind, data] = of ? ['jpeg', fs.readFileSync(thumbnail(of))]
        : ['png', await shot(page, SHOTS && path.join(SHOTS, `${name}-${version}.png`))];
      const picture = await page.evaluate(shrinkInPage,
        { data: `data:image/${kind};base64,${data.toString('base64')}`, width: 768, title });
      fs.writeFileSync(thumbnail(name), bytes(picture));
      console.log(`pictured ${name}`);
      continue;
    }
    const started = Date.now();
    const known = await page.evaluate(() => fetch('/api/history').then((r) => r.json()).then(Object.keys));
    await page.evaluate(() => app.queuePrompt(0));
    let entry;
    while (!entry && Date.now() - started < RUN_SECONDS * 1000) {
      await page.waitForTimeout(500);
      const history = await page.evaluate(() => fetch('/api/history').then((r) => r.json()));
      entry = Object.entries(history).find(([id]) => !known.includes(id))?.[1];
    }
    const seconds = ((Date.now() - started) / 1000).toFixed(1);
    if (entry?.status.status_str !== 'success') {
      faults.push(`${name}: did not finish: ${JSON.stringify(entry?.status ?? 'time is up').slice(0, 500)}`);
      continue;
    }
    faults.push(...errors.map((text) => `${name}: console: ${text}`));
    errors.length = 0;
    const ids = Object.fromEntries(spec.nodes.map(([key], i) => [key, i + 1 + spec.notes.length]));
    const parts = spec.thumb.map(([key, number, label]) => {
      const image = entry.outputs[ids[key]].images[number];
      return { label, url: `/api/view?${new URLSearchParams(image)}` };
    });
    const picture = await page.evaluate(collageInPage, { parts, side: 256 });
    if (keep) fs.writeFileSync(thumbnail(name), bytes(picture));
    if (SHOTS) await shot(page, path.join(SHOTS, `${name}-${version}-run.png`));
    console.log(`ran ${name} in ${seconds} s on ${version}`);
  }
  return faults;
}

async function main() {
  const [command, ...rest] = process.argv.slice(2);
  const thumbs = (session, names) => run(session, names, true);
  const does = { build, blueprints, convert, check, run, thumbs }[command];
  if (!does) throw new Error('expected a command: build, blueprints, convert, check, run or thumbs');
  const all = workflows.map((each) => each.name);
  const unknown = rest.filter((name) => !all.includes(name));
  if (unknown.length) throw new Error(`unknown workflow ${unknown.join(', ')}; there are ${all.join(', ')}`);
  const session = await open();
  let faults;
  try {
    faults = await does(session, rest.length ? rest : all);
  } finally {
    await session.close();
  }
  for (const fault of faults) console.error(fault);
  process.exitCode = faults.length ? 1 : 0;
}

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
