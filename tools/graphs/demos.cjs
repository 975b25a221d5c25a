// One degradation, Refine, the demo prior. For other samplers, see samplers.cjs.
'use strict';

const {
  PREVIEWED, BLUE, GREEN, AMBER, VIOLET, box, INTRO_DEMO, LIMITS, demoModel, save, show, check, report,
  sampler, encode, chain,
} = require('./parts.cjs');

const CHANGE = `- *Example Picture*: another picture
- *denoise* of the sampler: how much may be made up
- *noise* of Encode Measurement: how grainy the photo is
`;
const SEE = `## What you see

**What was measured** is all that the sampler gets. **Restored** is what it made of it: compare it
with the **Original**.

**Report**: the restored picture is damaged again and compared with the measured one. A residual of
about 1 time the noise is right.

**What is left over** is that difference. Even, grey grain is good. If you recognise the picture in
it, the measurement was missed.`;

// What is the same in all demos: model, sampler, and the check. "nodes" make a measurement, "second" is
// the group's title, height, and what comes before it.
function framed(name, { nodes, second, before = [], measured, label, seed, title, what, change, seen }) {
  return {
    name,
    nodes: [
      ...demoModel(360),
      ...nodes,
      show('measured', measured, ['encode', 'image'], [720, 970, 300, 250]),
      sampler('restore', 'Refine', [720, 80, 300, PREVIEWED], { seed }),
      save('restored', 'Restored', name.replace('demo_', ''), ['restore', 'image'], [1080, 80, 300, 290]),
      check('check', ['restore', 'image'], [1080, 850, 300, 0]),
      show('residual', 'What is left over', ['check', 'residual'], [1440, 810, 300, 250]),
      report('report', 'check', [1440, 1110, 300, 110]),
    ],
    groups: [
      box('1 · Model', 340, 0, 320, 420, BLUE),
      ...before,
      box(second[0], 0, 470, 660, second[1], AMBER),
      box('3 · Restore', 700, 0, 700, 735, GREEN),
      box('4 · Check', 700, 740, 1060, 500, VIOLET),
    ],
    notes: [
      ['What this does', [0, 30, 320, 390], `## ${title}

${what}

${INTRO_DEMO}

**To change**
${change}
${LIMITS}`],
      ['What you see', [1440, 30, 320, 390], seen],
    ],
    thumb: [['measured', 0, label], ['restored', 0, 'restored']],
  };
}

// With scratches, a node draws the mask of a Mask node.
function demo(name, {
  picture, operators, noise = 0.03, seed = 1, title, what, change = '', scratches, extra = [], more = [],
}) {
  const first = scratches ? 870 : 690;
  return framed(name, {
    nodes: [
      ['picture', 'FlowDPS_ExamplePicture', [20, 550, 280, 0], { set: { picture } }],
      ...(scratches ? [['scratches', 'FlowDPS_Scratches', [20, 690, 280, 0],
        { set: scratches, from: { image: ['picture', 'image'] } }]] : []),
      ...chain(operators, 20, first),
      show('original', 'Original', ['picture', 'image'], [360, 550, 280, 250]),
      encode(['picture', 'image'], `operator${operators.length}`, [360, 870, 280, 0], { noise }),
      ...extra,
    ],
    before: more,
    second: ['2 · Picture and damage', 770], measured: 'What was measured', label: 'measured',
    seed, title, what, change: CHANGE + change, seen: SEE,
  });
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
    operators: [['MotionBlur', { size: 17, intensity: 0.5, seed: 5, boundary: 'symmetric' }, 150]],
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
      ['GaussianBlur', { sigma: 1.5, size: 9, boundary: 'symmetric' }, 106],
      ['Bicubic', { scale: 2 }, 58],
    ],
    title: 'Two kinds of damage at once',
    what: `First blurred, then shrunk to half the size. Connect one degradation node to the next, in the
order in which things happened.`,
    change: '- *sigma* and *scale*: how much of each\n',
  }),
  demo('demo_inpaint_scratches', {
    picture: 'bee',
    scratches: SCRATCHES,
    operators: [['Mask', {}, 58, { mask: ['scratches', 'mask'] }]],
    title: 'Mend scratches',
    what: 'Scratches took parts of the picture away; what was there is made anew.',
    change: `- *count* and *thickness* of Random Scratches
- your own photo: *Load Image* gives the picture and the mask that you paint in its mask editor; or *Find
Scratches* marks them
`,
    extra: [
      ['found', 'FlowDPS_FindScratches', [1800, 80, 300, 0],
        { set: { sensitivity: 0.9 }, from: { image: ['encode', 'image'] } }],
      ['marks', 'MaskToImage', [1800, 300, 300, 0], { from: { mask: ['found', 'mask'] } }],
      show('marked', 'What Find Scratches marks', ['marks', 'IMAGE'], [1800, 400, 300, 300]),
    ],
    more: [box('5 · Found by themselves', 1780, 0, 340, 735, BLUE)],
  }),
  demo('demo_old_photo', {
    picture: 'house',
    noise: 0.06,
    scratches: SCRATCHES,
    operators: [
      ['GaussianBlur', { sigma: 1.2, size: 9, boundary: 'symmetric' }, 106],
      ['Mask', {}, 58, { mask: ['scratches', 'mask'] }],
    ],
    title: 'Mend an old photo',
    what: 'Blurred, scratched and grainy at once. The mask comes last: the scratches lie on the blurred print.',
    change: '- *sigma*: how blurred it is\n- *count* and *thickness* of Random Scratches\n',
  }),
  demo('demo_out_of_focus', {
    picture: 'truck',
    operators: [['DefocusBlur', { radius: 4.0, boundary: 'symmetric' }, 82]],
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

module.exports = { SEE, framed, demos };
