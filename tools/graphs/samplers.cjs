// The samplers side by side, and inside the host's own sampling nodes.
'use strict';

const {
  PREVIEWED, BLUE, GREEN, AMBER, VIOLET, box, INTRO_DEMO, LIMITS, demoModel, save, show, check, report,
  sampler, encode, chain, STEPS, stepsOf,
} = require('./parts.cjs');

// All methods on one measurement.

const METHODS = ['Refine', 'FlowDPS', 'FlowChef', 'FLAIR', 'LATINO', 'PSLD'];

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
    const y = 80 + 790 * i;
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
      ...METHODS.map((method, i) => box(`3 · Restore with ${method}`, 740, 790 * i, 1060, 760, GREEN)),
    ],
    notes: [
      ['What this does', [0, 30, 320, 390], `## Compare the samplers

One damaged picture, six ways to restore it.

${INTRO_DEMO.replace('some seconds', 'about half a minute')}

**To change**
- *Example Picture*: another picture
- *Downscale (Average)*: another degradation node in its place
- *seed* of the samplers: other pictures that fit as well

${LIMITS}`],
      ['What you see', [0, 1450, 660, 250], `## What you see

- **Refine** starts from a classical restoration: the least work, and closest to the photo
- **FlowDPS** pulls every step towards the photo and renews some noise: it invents more
- **FlowChef** pulls once per step, and is less exact
- **FLAIR** turns between model and photo; **LATINO** is made for models of few steps
- **PSLD** goes through the whole model: it needs the most memory

**Report**: each restored picture is damaged again and compared with the measured one. A residual of
about 1 time the noise is right; far above it, the photo was missed. **Left over** is the difference:
if you recognise the picture in it, the photo was missed.`],
    ],
    thumb: [['measured', 0, 'measured'], ['refine_restored', 0, 'Refine'],
      ['flowdps_restored', 0, 'FlowDPS'], ['psld_restored', 0, 'PSLD']],
  };
}

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
    ['sigmas', 'FlowDPS_Sigmas', [720, 346, 300, 0], {
      set: { steps: stepsOf(method), shift: 4.0, method: STEPS[method] ? method : 'FlowDPS' },
    }],
    ['sampler', `FlowDPS_${method}SamplerObject`, [720, 610, 300, 0], {
      set: { preset: 'tuned', step_scale: 1.0 },
      from: { measurement: ['encode', 'measurement'], vae: ['prior', 'vae'] },
    }],
    show('measured', 'What was measured', ['encode', 'image'], [720, 900, 300, 250]),
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
      box('3 · Noise, guidance, schedule', 700, 0, 340, 500, GREEN),
      box('4 · Sampler', 700, 530, 340, 640, GREEN),
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

// Several restorations of one photo, and where they differ.

function several() {
  const nodes = [
    ...demoModel(360),
    ['picture', 'FlowDPS_ExamplePicture', [20, 550, 280, 0], { set: { picture: 'bee' } }],
    ...chain([['AveragePool', { scale: 8 }, 58]], 20, 690),
    encode(['picture', 'image'], 'operator1', [360, 550, 280, 0]),
    show('original', 'Original', ['picture', 'image'], [360, 780, 280, 250]),
    sampler('sampler', 'FlowDPS', [760, 80, 300, PREVIEWED], { more: { samples: 4 } }),
    ['compare', 'FlowDPS_Samples', [1120, 80, 300, 0], {
      set: { calibration: 2.0 },
      from: { image: ['sampler', 'image'], measurement: ['encode', 'measurement'] },
    }],
    save('mean', 'Mean', 'several_mean', ['compare', 'mean'], [1120, 330, 300, 290]),
    save('sheet', 'All of them', 'several_sheet', ['compare', 'sheet'], [1480, 80, 460, 460]),
    report('report', 'compare', [1480, 620, 460, 120]),
  ];
  return {
    name: 'demo_several_samples', nodes,
    groups: [
      box('1 · Model', 340, 0, 320, 420, BLUE),
      box('2 · Picture and damage', 0, 470, 660, 580, AMBER),
      box('3 · Restore four times', 740, 0, 340, 780, GREEN),
      box('4 · Compare', 1100, 0, 860, 780, VIOLET),
    ],
    notes: [['What this does', [0, 30, 320, 390], `## What does the photo tell, what is made up?

A picture shrunk to an eighth fits many pictures. Four of them are made, and compared.

${INTRO_DEMO.replace('some seconds', 'about half a minute')}

- **Mean**: closest on average, but soft
- a single **sample** is sharper
- the **spread** is bright where the model guessed

**To change**
- *samples* of the sampler
- *Downscale (Average)*: less damage, and the samples agree

${LIMITS}`]],
    thumb: [['sheet', 0, 'four samples']],
  };
}

const customs = [
  custom('Refine', 'penguin', ['GaussianBlur', { sigma: 2.0, size: 13, boundary: 'symmetric' }, 106]),
  custom('FLAIR', 'house', ['AveragePool', { scale: 4 }, 58]),
  custom('LATINO', 'truck', ['AveragePool', { scale: 4 }, 58]),
  custom('FlowDPS', 'penguin', ['GaussianBlur', { sigma: 2.0, size: 13, boundary: 'symmetric' }, 106]),
  custom('FlowChef', 'house', ['AveragePool', { scale: 4 }, 58], { guider: 'CFGGuider' }),
  custom('PSLD', 'truck', ['Identity', {}, 30], { noise: 0.2 }),
];

module.exports = { compare, customs, several };
