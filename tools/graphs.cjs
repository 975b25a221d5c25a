// The shipped workflows as data: nodes with places, values and links. tools/browser.cjs builds them
// in the real editor, so nothing here knows the file format.
//
// Samplers may show previews while they run; without room for them, the editor would let the node
// grow over what lies below.
//
// A node: [key, type, [x, y, width, height], { title, set: values by widget, from: links by input }].
// A link: [key of the node it comes from, name of that node's output].
'use strict';

const SD3 = 'sd3_medium_incl_clips_t5xxlfp8.safetensors';
const DEMO = 'built-in demo prior';
const PREVIEWED = 620;
const BLUE = '#3f789e', GREEN = '#8A8', AMBER = '#b58b2a', VIOLET = '#a1309b';

const box = (title, x, y, w, h, color) => ({ title, box: [x, y, w, h], color });

const INTRO_DEMO = `Press **Run**. Nothing to download: the model comes with this pack. It needs
about half a minute on a processor.`;
const LIMITS = `The demo model only knows emoji-like pictures on a plain background, up to 256 pixels. For
photos, open one of the *sd3* workflows.`;

// ---------------------------------------------------------------------------------------------
// Parts that several workflows share. A height of 0 is the least that the node needs.

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

function sampler(key, method, place, { seed = 1, cfg = 1.0, prompts = false } = {}) {
  return [key, `FlowDPS_${method}Sampler`, place, {
    set: { seed, control_after_generate: 'fixed', steps: 28, cfg, preset: 'tuned', step_size: 1.0 },
    from: {
      model: ['prior', 'model'], vae: ['prior', 'vae'],
      positive: prompts ? ['positive', 'CONDITIONING'] : ['empty', 'conditioning'],
      measurement: ['encode', 'measurement'],
      ...(prompts ? { negative: ['negative', 'CONDITIONING'] } : {}),
    },
  }];
}

const encode = (image, operator, place, {
  mode = 'simulate', noise = 0.03, vae = false, key = 'encode', title,
} = {}) => [key, 'FlowDPS_EncodeMeasurement', place, {
  title, set: { mode, noise },
  from: { image, operator: [operator, 'operator'], ...(vae ? { vae: ['prior', 'vae'] } : {}) },
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

// ---------------------------------------------------------------------------------------------
// One degradation, one sampler, the demo prior.

const CHANGE = `- *Example Picture*: another picture
- *seed* of the sampler: another picture that fits as well
- *noise* of Encode Measurement: how grainy the photo is
`;
const SEE = `## What you see

**What was measured** is all that the sampler gets. **Restored** is what it made of it: compare it
with the **Original**.

**Report**: the restored picture is damaged again and compared with the measured one. A residual of
about 1 time the noise is right.

**What is left over** is that difference. Even, grey grain is good. If you recognise the picture in
it, the measurement was missed.`;

// With scratches, a node draws the mask of a Mask node. With observed, the picture is damaged by a
// node of its own, and what comes out is restored like a photo of which only that much is known.
function demo(name, {
  picture, operators, noise = 0.03, seed = 1, title, what, change = '', scratches, observed,
}) {
  const last = `operator${operators.length}`;
  const first = scratches ? 870 : 690;
  return {
    name,
    nodes: [
      ...demoModel(360),
      ['picture', 'FlowDPS_ExamplePicture', [20, 550, 280, 0], { set: { picture } }],
      ...(scratches ? [['scratches', 'FlowDPS_Scratches', [20, 690, 280, 0],
        { set: scratches, from: { image: ['picture', 'image'] } }]] : []),
      ...chain(operators, 20, first),
      ...(observed ? [encode(['picture', 'image'], last, [20, 850, 280, 0],
        { key: 'damage', title: observed, noise: 0 })] : []),
      show('original', 'Original', ['picture', 'image'], [360, 550, 280, 250]),
      encode([observed ? 'damage' : 'picture', 'image'], last, [360, 870, 280, 0],
        { noise, mode: observed ? 'observed' : 'simulate' }),
      show('measured', 'What was measured', ['encode', 'image'], [720, 970, 300, 250]),
      sampler('restore', 'FlowDPS', [720, 80, 300, PREVIEWED], { seed }),
      save('restored', 'Restored', name.replace('demo_', ''), ['restore', 'image'], [1080, 80, 300, 290]),
      check('check', ['restore', 'image'], [1080, 850, 300, 0]),
      show('residual', 'What is left over', ['check', 'residual'], [1440, 810, 300, 250]),
      report('report', 'check', [1440, 1110, 300, 110]),
    ],
    groups: [
      box('1 · Model', 340, 0, 320, 420, BLUE),
      box('2 · Picture and damage', 0, 470, 660, 770, AMBER),
      box('3 · Restore', 700, 0, 700, 720, GREEN),
      box('4 · Check', 700, 740, 1060, 500, VIOLET),
    ],
    notes: [
      ['What this does', [0, 30, 320, 390], `## ${title}

${what}

${INTRO_DEMO}

**To change**
${CHANGE}${change}
${LIMITS}`],
      ['What you see', [1440, 30, 320, 390], SEE],
    ],
    thumb: [['measured', 0, 'measured'], ['restored', 0, 'restored']],
  };
}

const SCRATCHES = { count: 12, thickness: 2.5, seed: 3 };

const demos = [
  demo('demo_upscale_x4', {
    picture: 'penguin',
    operators: [['DegradationOperator', { task: 'sr_bicubic', deg_scale: 4 }, 106]],
    title: 'Upscale 4 ×',
    what: 'A picture is shrunk to a quarter of its width and height, and made large again.',
    change: '- *deg_scale*: how many times smaller it was\n- *task*: another kind of damage\n',
  }),
  demo('demo_unpixelate_x4', {
    picture: 'house',
    operators: [['AveragePool', { scale: 4 }, 58]],
    title: 'Undo a mosaic',
    what: 'Blocks of 4 × 4 pixels became one colour each; the detail comes back.',
    change: '- *scale*: size of the blocks\n',
  }),
  demo('demo_sharpen_out_of_focus', {
    picture: 'butterfly',
    operators: [['DegradationOperator', { task: 'deblur_gauss', deg_scale: 19 }, 106]],
    title: 'Sharpen an out-of-focus picture',
    what: 'The picture is blurred with a kernel 19 pixels wide, and made sharp again.',
    change: '- *deg_scale*: width of the blur in pixels, an odd number\n- *task*: another kind of damage\n',
  }),
  demo('demo_fix_camera_shake', {
    picture: 'truck',
    operators: [['MotionBlur', { size: 17, intensity: 0.5, seed: 5, boundary: 'reflect' }, 150]],
    title: 'Undo a camera shake',
    what: 'The camera moved along a random path within 17 pixels.',
    change: '- *size*, *intensity* and *seed* of Motion Blur: another shake\n',
  }),
  demo('demo_remove_noise', {
    picture: 'party-face',
    operators: [['Identity', {}, 30]],
    noise: 0.3,
    title: 'Remove grain',
    what: 'The picture is complete and sharp, but strong grain lies over it.',
  }),
  demo('demo_blur_then_shrink', {
    picture: 'bee',
    operators: [
      ['GaussianBlur', { sigma: 1.5, size: 9, boundary: 'reflect' }, 106],
      ['Bicubic', { scale: 2 }, 58],
    ],
    title: 'Two kinds of damage at once',
    what: `First blurred, then shrunk to half the size. Connect one degradation node to the next, in the
order in which things happened.`,
    change: '- *sigma* and *scale*: how much of each\n',
  }),
  demo('demo_inpaint_scratches', {
    picture: 'butterfly',
    scratches: SCRATCHES,
    operators: [['Mask', {}, 58, { mask: ['scratches', 'mask'] }]],
    title: 'Mend scratches',
    what: 'Scratches took parts of the picture away; what was there is made anew.',
    change: `- *count* and *thickness* of Random Scratches
- your own photo: *Load Image* gives the picture and the mask that you paint in its mask editor
`,
  }),
  demo('demo_old_photo', {
    picture: 'house',
    noise: 0.06,
    scratches: SCRATCHES,
    operators: [
      ['GaussianBlur', { sigma: 1.2, size: 9, boundary: 'reflect' }, 106],
      ['Mask', {}, 58, { mask: ['scratches', 'mask'] }],
    ],
    title: 'Mend an old photo',
    what: 'Blurred, scratched and grainy at once. The mask comes last: the scratches lie on the blurred print.',
    change: '- *sigma*: how blurred it is\n- *count* and *thickness* of Random Scratches\n',
  }),
  demo('demo_jpeg_repair', {
    picture: 'house',
    noise: 0.1,
    observed: 'Make a bad JPEG',
    operators: [['Jpeg', { quality: 10, subsampling: '4:2:0' }, 82]],
    title: 'Repair a JPEG',
    what: `A picture is saved as a JPEG of quality 10, and the JPEG is restored as if it were a photo of
yours (*mode* is **observed**). *noise* allows for what JPEG rounded away; the JPEG itself has no grain, so
that a residual far below 1 time the noise is right here.`,
    change: `- *quality*: lower is worse
- your own JPEG, neither resized nor cropped: connect *Load Image* to Encode Measurement
`,
  }),
  demo('demo_out_of_focus', {
    picture: 'truck',
    operators: [['DefocusBlur', { radius: 4.0, boundary: 'reflect' }, 82]],
    title: 'A lens out of focus',
    what: 'Every point became a disk of 4 pixels radius, as behind a lens that is out of focus.',
    change: '- *radius*: how far out of focus it is\n',
  }),
  demo('demo_deinterlace', {
    picture: 'bee',
    operators: [['Interlace', { field: 'top' }, 58]],
    title: 'Fill the missing rows',
    what: 'Of a frame of video only every other row is known; the rows between are made anew.',
    change: '- *field*: which rows are known\n',
  }),
];

// ---------------------------------------------------------------------------------------------
// Three samplers on one measurement.

const METHODS = ['FlowDPS', 'FlowChef', 'PSLD'];

function compare() {
  const nodes = [
    ...demoModel(360),
    ['picture', 'FlowDPS_ExamplePicture', [20, 550, 280, 0], { set: { picture: 'bee' } }],
    ...chain([['AveragePool', { scale: 4 }, 58]], 20, 690),
    show('original', 'Original', ['picture', 'image'], [360, 550, 280, 250]),
    encode(['picture', 'image'], 'operator1', [360, 870, 280, 0]),
  ];
  METHODS.forEach((method, i) => {
    const key = method.toLowerCase();
    const y = 80 + 750 * i;
    nodes.push(
      sampler(key, method, [760, y, 300, PREVIEWED]),
      save(`${key}_restored`, `${method}: restored`, `compare_${key}`, [key, 'image'], [1120, y, 300, 290]),
      check(`${key}_check`, [key, 'image'], [1120, y + 370, 300, 0]),
      show(`${key}_residual`, `${method}: left over`, [`${key}_check`, 'residual'], [1480, y + 120, 300, 250]),
      report(`${key}_report`, `${key}_check`, [1480, y + 440, 300, 120], `${method}: report`),
    );
  });
  nodes.push(show('measured', 'What was measured', ['encode', 'image'], [360, 1110, 280, 250]));
  return {
    name: 'demo_compare_samplers', nodes,
    groups: [
      box('1 · Model', 340, 0, 320, 420, BLUE),
      box('2 · Picture and damage', 0, 470, 660, 910, AMBER),
      ...METHODS.map((method, i) => box(`3 · Restore with ${method}`, 740, 750 * i, 1060, 720, GREEN)),
    ],
    notes: [
      ['What this does', [0, 30, 320, 390], `## Compare the three samplers

One damaged picture, three ways to restore it.

${INTRO_DEMO}

**To change**
- *Example Picture*: another picture
- *Downscale (Average)*: another degradation node in its place
- *seed* of the samplers: other pictures that fit as well

${LIMITS}`],
      ['What you see', [0, 1450, 660, 200], `## What you see

- **FlowDPS** pulls every step towards the photo and renews some noise: the best in most cases
- **FlowChef** is the fastest, and less exact
- **PSLD** goes through the whole model: it needs the most memory

**Report**: each restored picture is damaged again and compared with the measured one. A residual of
about 1 time the noise is right; far above it, the photo was missed. **Left over** is the difference:
if you recognise the picture in it, the photo was missed.`],
    ],
    thumb: [['measured', 0, 'measured'], ['flowdps_restored', 0, 'FlowDPS'],
      ['flowchef_restored', 0, 'FlowChef'], ['psld_restored', 0, 'PSLD']],
  };
}

// ---------------------------------------------------------------------------------------------
// The same with the host's own sampling nodes.

function custom(method, picture, operator, { guider = 'BasicGuider', noise = 0.03 } = {}) {
  const name = `demo_custom_sampler_${method.toLowerCase()}`;
  const empty = ['empty', 'conditioning'];
  const basic = guider === 'BasicGuider';
  const nodes = [
    ...demoModel(360),
    ['picture', 'FlowDPS_ExamplePicture', [20, 550, 280, 0], { set: { picture } }],
    ...chain([operator], 20, 670),
    encode(['picture', 'image'], 'operator1', [360, 550, 280, 0], { noise }),
    show('original', 'Original', ['picture', 'image'], [360, 780, 280, 250]),
    ['noise', 'RandomNoise', [720, 80, 300, 0], { set: { noise_seed: 1, control_after_generate: 'fixed' } }],
    ['guider', guider, [720, basic ? 218 : 198, 300, 0], {
      set: basic ? {} : { cfg: 1.0 },
      from: { model: ['prior', 'model'], ...(basic ? { conditioning: empty } : { positive: empty, negative: empty }) },
    }],
    ['sigmas', 'FlowDPS_Sigmas', [720, 346, 300, 0], { set: { steps: 28, shift: 4.0 } }],
    ['sampler', `FlowDPS_${method}SamplerObject`, [720, 550, 300, 0], {
      set: { preset: 'tuned', step_size: 1.0 },
      from: { measurement: ['encode', 'measurement'], vae: ['prior', 'vae'] },
    }],
    show('measured', 'What was measured', ['encode', 'image'], [720, 840, 300, 250]),
    ['run', 'SamplerCustomAdvanced', [1100, 300, 280, 400], {
      from: {
        noise: ['noise', 'NOISE'], guider: ['guider', 'GUIDER'], sampler: ['sampler', 'sampler'],
        sigmas: ['sigmas', 'sigmas'], latent_image: ['encode', 'latent'],
      },
    }],
    ['decode', 'VAEDecode', [1440, 300, 240, 0], { from: { samples: ['run', 'output'], vae: ['prior', 'vae'] } }],
    save('restored', 'Restored', name.replace('demo_', ''), ['decode', 'IMAGE'], [1740, 300, 300, 290]),
  ];
  return {
    name, nodes,
    groups: [
      box('1 · Model', 340, 0, 320, 440, BLUE),
      box('2 · Picture and damage', 0, 470, 660, 640, AMBER),
      box('3 · Noise, guidance, schedule', 700, 0, 340, 440, GREEN),
      box('4 · Sampler', 700, 470, 340, 640, GREEN),
      box('5 · Restore', 1080, 220, 980, 500, VIOLET),
    ],
    notes: [['What this does', [0, 30, 320, 410], `## ${method} with ComfyUI's own sampling nodes

*${method} (SAMPLER)* goes into SamplerCustomAdvanced, with any guider, noise and schedule.

${INTRO_DEMO}

**To change**
- *noise_seed*: another picture that fits as well
- *steps* and *shift*, or another scheduler in place of FlowDPS Sigmas
- *${guider}*: any other guider

Keep the latent of *Encode Measurement*: it has the right size.

${LIMITS}`]],
    thumb: [['measured', 0, 'measured'], ['restored', 0, 'restored']],
  };
}

// ---------------------------------------------------------------------------------------------
// Stable Diffusion 3 with prompts.

const SD3_URL = 'https://huggingface.co/stabilityai/stable-diffusion-3-medium';
const SEE_SD3 = `## What you see

**What was measured** is all that the sampler gets. **Restored** is what it made of it.

**Report**: the restored picture is damaged again and compared with the measured one. A residual of
about 1 time the noise is right.

**What is left over** is that difference. Even, grey grain is good. If you recognise the photo in
it, the measurement was missed: raise *inner_steps*.

**Out of memory?** Choose a smaller *width* and *height*.`;

function sd3(name, {
  width = 768, height = 768, task, scale, mode = 'simulate', title, what, change = '', prompt,
}) {
  const observed = mode === 'observed';
  const nodes = [
    ['prior', 'FlowDPS_LoadFlowPrior', [360, 80, 360, 0], { set: { checkpoint: SD3 } }],
    ['positive', 'CLIPTextEncode', [780, 180, 300, 100], {
      title: 'What the photo shows', set: { text: prompt }, from: { clip: ['prior', 'clip'] },
    }],
    ['negative', 'CLIPTextEncode', [780, 332, 300, 88], {
      title: 'Empty prompt', set: { text: '' }, from: { clip: ['prior', 'clip'] },
    }],
    ['photo', 'LoadImage', [20, 560, 320, 440], { set: { image: 'example.png' } }],
    ['size', 'ImageScale', [400, 560, 320, 0], {
      set: { upscale_method: 'lanczos', width, height, crop: 'center' }, from: { image: ['photo', 'IMAGE'] },
    }],
    ['operator1', 'FlowDPS_DegradationOperator', [400, 790, 320, 0], { set: { task, deg_scale: scale } }],
    encode(['size', 'IMAGE'], 'operator1', [780, 760, 300, 0], { mode, vae: true }),
    show('measured', 'What was measured', ['encode', 'image'], [1140, 880, 300, 350]),
    sampler('restore', 'FlowDPS', [1140, 80, 300, PREVIEWED + 40], { cfg: 2.0, prompts: true }),
    save('restored', 'Restored', name, ['restore', 'image'], [1500, 80, 340, 600]),
    check('check', ['restore', 'image'], [1500, 850, 300, 0]),
    show('residual', 'What is left over', ['check', 'residual'], [1860, 850, 320, 230]),
    report('report', 'check', [1860, 1130, 320, 100]),
  ];
  return {
    name, nodes,
    groups: [
      box('1 · Model and prompt', 340, 0, 760, 440, BLUE),
      box(observed ? '2 · Your photo' : '2 · Photo and damage', 0, 480, 1100, 770, AMBER),
      box('3 · Restore', 1120, 0, 740, 760, GREEN),
      box('4 · Check', 1120, 780, 1080, 470, VIOLET),
    ],
    notes: [
      ['What this does', [0, 30, 320, 410], `## ${title}

${what}

**You need** [Stable Diffusion 3 Medium](${SD3_URL}) with its text encoders in \`models/checkpoints\`.
Another SD3 or SD3.5 checkpoint works as well.

**To change**
- *Load Image*: your photo
- *What the photo shows*: say it in a few words
${change}- *seed* of the sampler: another picture that fits as well`],
      ['What you see', [1880, 30, 320, 410], SEE_SD3],
    ],
    thumb: title,
  };
}

const FACE = 'a photo of a closed face';

const workflows = [
  ...demos, compare(),
  custom('FlowDPS', 'penguin', ['GaussianBlur', { sigma: 2.0, size: 13, boundary: 'reflect' }, 106]),
  custom('FlowChef', 'house', ['AveragePool', { scale: 4 }, 58], { guider: 'CFGGuider' }),
  custom('PSLD', 'truck', ['Identity', {}, 30], { noise: 0.2 }),
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
    prompt: 'a drawing of a girl in a pink dress on a green hill, blue sky',
    what: 'From 64 × 96 to 768 × 1152 pixels.',
    change: '- *width* and *height*: multiples of 48, so that 12 and 16 divide them\n',
  }),
  sd3('sd3_enlarge_your_photo_x4', {
    width: 192, height: 192, task: 'sr_bicubic', scale: 4, mode: 'observed', title: 'Enlarge your photo 4 ×',
    prompt: 'a drawing of a girl in a pink dress on a green hill, blue sky',
    what: `Your photo is the small one: nothing is damaged here (*mode* is **observed**). 192 × 192 pixels
become 768 × 768.`,
    change: `- *width* and *height*: the size of your small photo, multiples of 4; or leave Upscale Image out
- *noise*: how grainy your photo is
`,
  }),
];

module.exports = { workflows };
