// What several workflows share. A height of 0 is the least that the node needs.
'use strict';

const SD3 = 'sd3_medium_incl_clips_t5xxlfp8.safetensors';
const SD3_URL = 'https://huggingface.co/stabilityai/stable-diffusion-3-medium';
// What the editor offers to download where it is missing.
const SD3_FILE = { name: SD3, url: `${SD3_URL}/resolve/main/${SD3}`, directory: 'checkpoints' };
const DEMO = 'built-in demo prior';
const JPEG = 'FlowDPS example.jpg [temp]';
const ESTIMATE = { family: 'automatic', noise: 0, size: 31 };
const PREVIEWED = 620;
const BLUE = '#3f789e', GREEN = '#8A8', AMBER = '#b58b2a', VIOLET = '#a1309b';

const box = (title, x, y, w, h, color) => ({ title, box: [x, y, w, h], color });

const INTRO_DEMO = `Press **Run**. Nothing to download: the model comes with this pack. It needs
some seconds on a processor.`;
const LIMITS = `The demo model only knows emoji-like pictures on a plain background, up to 256 pixels. For
photos, open one of the *sd3* workflows.`;

function demoModel(x) {
  return [
    ['prior', 'FlowDPS_LoadFlowPrior', [x, 80, 280, 0], { set: { checkpoint: DEMO } }],
    ['empty', 'FlowDPS_EmptyConditioning', [x, 330, 280, 0], { from: { model: ['prior', 'model'] } }],
  ];
}

const save = (key, title, prefix, from, place) => [key, 'SaveImage', place, {
  title, set: { filename_prefix: `FlowDPS/${prefix}` }, from: { images: from },
}];
const show = (key, title, from, place) => [key, 'PreviewImage', place, { title, from: { images: from } }];
const check = (key, image, place) => [key, 'FlowDPS_MeasurementCheck', place, {
  from: { image, measurement: ['encode', 'measurement'] },
}];
const report = (key, from, place, title = 'Report') =>
  [key, 'PreviewAny', place, { title, from: { source: [from, 'report'] } }];

// The noise levels of the methods that do not take the paper's 28.
const STEPS = { Refine: 3, FLAIR: 6, LATINO: 8 };
const stepsOf = (method) => STEPS[method] || 28;

function sampler(key, method, place, { seed = 1, cfg = 1.0, prompts = false, preset = 'tuned', more = {} } = {}) {
  return [key, `FlowDPS_${method}Sampler`, place, {
    set: {
      seed, control_after_generate: 'fixed', steps: stepsOf(method), cfg, preset, step_scale: 1.0, ...more,
    },
    from: {
      model: ['prior', 'model'], vae: ['prior', 'vae'],
      positive: prompts ? ['positive', 'CONDITIONING'] : ['empty', 'conditioning'],
      measurement: ['encode', 'measurement'],
      ...(prompts ? { negative: ['negative', 'CONDITIONING'] } : {}),
    },
  }];
}

// The noise is a number, or a link to who measures it.
const encode = (image, operator, place, {
  mode = 'simulate', noise = 0.03, vae = false, key = 'encode', title,
} = {}) => [key, 'FlowDPS_EncodeMeasurement', place, {
  title, set: Array.isArray(noise) ? { mode } : { mode, noise },
  from: {
    image, operator: [operator, 'operator'],
    ...(vae ? { vae: ['prior', 'vae'] } : {}), ...(Array.isArray(noise) ? { noise } : {}),
  },
}];

// Degradation nodes below each other, each fed by the one above.
function chain(operators, x, y) {
  let before = null;
  return operators.map(([type, set, height, from = {}], i) => {
    const key = `operator${i + 1}`;
    const node = [key, `FlowDPS_${type}`, [x, y, 280, 0], {
      set, from: { ...from, ...(before ? { operator: [before, 'operator'] } : {}) },
    }];
    before = key;
    y += height + 60;
    return node;
  });
}

module.exports = {
  DEMO, JPEG, ESTIMATE, SD3, SD3_URL, SD3_FILE, PREVIEWED, BLUE, GREEN, AMBER, VIOLET, box, INTRO_DEMO, LIMITS, STEPS, stepsOf,
  demoModel, save, show, check, report, sampler, encode, chain,
};
