// Stable Diffusion 3 with prompts.
'use strict';

const {
  SD3, SD3_URL, SD3_FILE, PREVIEWED, BLUE, GREEN, AMBER, VIOLET, box, save, show, check, report, sampler, encode,
} = require('./parts.cjs');

const NEEDED = `**You need** [Stable Diffusion 3 Medium](${SD3_URL}) with its text encoders in \`models/checkpoints\`.
Another SD3 or SD3.5 checkpoint works as well.`;
const SEE_SD3 = `## What you see

**What was measured** is all that the sampler gets. **Restored** is what it made of it.

**Report**: the restored picture is damaged again and compared with the measured one. A residual of
about 1 time the noise is right.

**What is left over** is that difference. Even, grey grain is good. If you recognise the photo in
it, the measurement was missed: raise *step_scale*.

**Out of memory?** Choose a smaller *width* and *height*.`;

const GIRL = 'a drawing of a girl in a pink dress on a green hill, blue sky';

const PAPER = `*preset* is **published**: the settings with which the paper's authors made their pictures with this
very model. **tuned** was chosen with small models only.`;
const TUNED = `*preset* is **tuned**: it was chosen with small models only, and nobody has compared it with this one.
**published** has the paper's settings.`;

// What is the same in all of them: model, prompts, sampler, and the check. "nodes" make a measurement,
// "second" is the group's title and height.
function framed(name, { prompt, nodes, second, measured, title, what, change, seen, preset = 'tuned' }) {
  return {
    name,
    nodes: [
      ['prior', 'FlowDPS_LoadFlowPrior', [360, 80, 360, 0], { set: { checkpoint: SD3 }, models: [SD3_FILE] }],
      ['positive', 'CLIPTextEncode', [780, 180, 300, 100], {
        title: 'What the photo shows', set: { text: prompt }, from: { clip: ['prior', 'clip'] },
      }],
      ['negative', 'CLIPTextEncode', [780, 332, 300, 88], {
        title: 'Empty prompt', set: { text: '' }, from: { clip: ['prior', 'clip'] },
      }],
      ...nodes,
      show('measured', measured, ['encode', 'image'], [1140, 880, 300, 350]),
      sampler('restore', 'FlowDPS', [1140, 80, 300, PREVIEWED + 40], { cfg: 2.0, prompts: true, preset }),
      save('restored', 'Restored', name, ['restore', 'image'], [1500, 80, 340, 600]),
      check('check', ['restore', 'image'], [1500, 850, 300, 0]),
      show('residual', 'What is left over', ['check', 'residual'], [1860, 850, 320, 230]),
      report('report', 'check', [1860, 1130, 320, 100]),
    ],
    groups: [
      box('1 · Model and prompt', 340, 0, 760, 440, BLUE),
      box(second[0], 0, 480, 1100, second[1], AMBER),
      box('3 · Restore', 1120, 0, 740, 770, GREEN),
      box('4 · Check', 1120, 780, 1080, 470, VIOLET),
    ],
    notes: [
      ['What this does', [0, 30, 320, 410], `## ${title}

${what}

${preset === 'published' ? PAPER : TUNED}

${NEEDED}

**To change**
${change}- *seed* of the sampler: another picture that fits as well`],
      ['What you see', [1880, 30, 320, 410], seen],
    ],
    thumb: title,
  };
}

const loaded = ['photo', 'LoadImage', [20, 560, 320, 440], { set: { image: 'example.png' } }];
const scaled = (width, height) => ['size', 'ImageScale', [400, 560, 320, 0], {
  set: { upscale_method: 'lanczos', width, height, crop: 'center' }, from: { image: ['photo', 'IMAGE'] },
}];
const SAY = '- *What the photo shows*: say it in a few words\n';

function sd3(name, {
  width = 768, height = 768, task, scale, mode = 'simulate', title, what, change = '', prompt,
}) {
  return framed(name, {
    prompt, preset: mode === 'simulate' ? 'published' : 'tuned',
    nodes: [
      loaded, ...(mode === 'observed' ? [] : [scaled(width, height)]),
      ['operator1', 'FlowDPS_DegradationOperator', [400, 790, 320, 0], { set: { task, deg_scale: scale } }],
      encode(mode === 'observed' ? ['photo', 'IMAGE'] : ['size', 'IMAGE'], 'operator1', [780, 760, 300, 0],
        { mode, vae: true }),
    ],
    second: [mode === 'observed' ? '2 · Your photo' : '2 · Photo and damage', 770],
    measured: 'What was measured', title, what, change: `- *Load Image*: your photo\n${SAY}${change}`,
    seen: SEE_SD3,
  });
}

const FACE = 'a photo of a closed face';

const simulated = [
  sd3('sd3_unpixelate_x12', {
    task: 'sr_avgpool', scale: 12, prompt: FACE, title: 'Undo a mosaic, 12 ×',
    what: 'Every block of 12 × 12 pixels becomes one colour: 64 × 64 of them. From these, 768 × 768 pixels.',
    change: '- *deg_scale*: size of the blocks\n',
  }),
  sd3('sd3_upscale_x12', {
    task: 'sr_bicubic', scale: 12, prompt: FACE, title: 'Upscale 12 ×',
    what: 'A photo is shrunk to 64 × 64 pixels and made large again: 768 × 768.',
    change: '- *deg_scale*: how many times smaller it was\n',
  }),
  sd3('sd3_fix_camera_shake', {
    task: 'deblur_motion', scale: 61, prompt: FACE, title: 'Undo a strong camera shake',
    what: 'The camera moved along a random path within 61 pixels, at 768 × 768.',
    change: '- *deg_scale*: how far it moved, in pixels\n- *seed* of the operator: another shake\n',
  }),
  sd3('sd3_upscale_x12_portrait', {
    width: 768, height: 1152, task: 'sr_bicubic', scale: 12, title: 'Upscale 12 ×, portrait format',
    prompt: GIRL,
    what: 'From 64 × 96 to 768 × 1152 pixels.',
    change: '- *width* and *height*: multiples of 48, so that 12 and 16 divide them\n',
  }),
  sd3('sd3_enlarge_your_photo_x4', {
    task: 'sr_bicubic', scale: 4, mode: 'observed', title: 'Enlarge your photo 4 ×', prompt: GIRL,
    what: `Your photo is the small one: nothing is damaged here (*mode* is **observed**), cropped or shrunk. It
becomes four times as large.`,
    change: '- *deg_scale*: how many times larger\n- *noise*: how grainy your photo is\n',
  }),
];

module.exports = { SEE_SD3, GIRL, SAY, framed, loaded, scaled, simulated };
