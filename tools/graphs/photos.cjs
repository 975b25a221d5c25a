// Your own photo with Stable Diffusion 3.
'use strict';

const { JPEG, ESTIMATE, show, report, encode, chain } = require('./parts.cjs');
const { SEE_SD3, GIRL, SAY, framed, loaded } = require('./sd3.cjs');

const PAINT = ', and paint over the scratches in its mask editor';

// Nothing is simulated. "operators" as in chain, "find" a node that measures the photo; "noise" a number
// or a link. With a file, Read JPEG loads the photo.
function photo(name, {
  file, find, operators = [], operator, noise, reports, kernel, painted, title, what, change, prompt,
}) {
  const source = file ? ['photo', 'image'] : ['photo', 'IMAGE'];
  const yours = `- *${file ? 'file* of Read JPEG' : 'Load Image*'}: your photo${painted ? PAINT : ''}\n`;
  return framed(name, {
    prompt,
    nodes: [
      file ? ['photo', 'FlowDPS_ReadJpeg', [20, 560, 320, 0], { set: { file } }] : loaded,
      ...chain(operators, 400, 560),
      ...(find ? [['find', `FlowDPS_${find[0]}`, [400, 840, 320, 0],
        { set: find[1], from: { image: source } }]] : []),
      report('found', reports, [400, 1120, 320, 100], 'What was found'),
      ...(kernel ? [show('kernel', 'The blur that was found', [kernel, 'kernel'], [20, 1070, 320, 230])] : []),
      encode(source, operator, [780, 760, 300, 0], { mode: 'observed', noise, vae: true }),
    ],
    second: ['2 · Your photo, and how it was damaged', 850], measured: 'Your photo',
    title, what, change: yours + SAY + change,
    seen: SEE_SD3.replace('What was measured', 'Your photo')
      .replace(/Choose a smaller.*/, 'Choose *memory* = strips, or a smaller *tile_size*.'),
  });
}

const photos = [
  photo('sd3_sharpen_your_photo', {
    find: ['EstimateBlur', ESTIMATE], operator: 'find', noise: ['find', 'noise'],
    reports: 'find', kernel: 'find', title: 'Your photo is out of focus or shaken', prompt: GIRL,
    what: `*Estimate Blur Kernel* finds the blur and the noise in the photo alone. Look at what it found before you
believe it: one blur must lie over the whole photo.`,
    change: `- *family*, if you know it: a lens (defocus), softness (gaussian), a movement (motion)
`,
  }),
  photo('sd3_repair_your_jpeg', {
    file: JPEG, operator: 'photo', noise: ['photo', 'noise'], reports: 'photo',
    prompt: 'a photo of a house', title: 'Your photo is a bad JPEG',
    what: `*Read JPEG* reads in the file how it was compressed. The photo must come as it is, neither resized nor
cropped; what is larger than 1.5 megapixels is restored in tiles.`,
    change: '- *noise* in place of the link: larger leaves more to the model\n',
  }),
  photo('sd3_mend_your_old_photo', {
    operators: [
      ['GaussianBlur', { sigma: 1.2, size: 9, boundary: 'symmetric' }, 106],
      ['Mask', {}, 58, { mask: ['photo', 'MASK'] }],
    ],
    find: ['EstimateNoise', {}], operator: 'operator2', noise: ['find', 'noise'], reports: 'find', painted: true,
    title: 'Your old photo: soft, scratched, grainy', prompt: GIRL,
    what: `What you paint over in the mask editor of *Load Image* is made anew, while the rest is sharpened and
freed of its grain, all at once. The grain is measured.`,
    change: '- *sigma* of Gaussian Blur: how soft the photo is; too much gives halos\n',
  }),
  photo('sd3_deinterlace_your_frame', {
    operators: [['Interlace', { field: 'top' }, 58]],
    find: ['EstimateNoise', {}], operator: 'operator1', noise: 0.03, reports: 'find',
    title: 'Your frame of old video has combs', prompt: GIRL,
    what: `Of the frame, only every other row is taken; the rows between are made anew. The frame must come at
its own size.`,
    change: `- *field*: which rows are kept, top or bottom
- *noise*: how grainy the frame is; *What was found* shows what was measured
`,
  }),
];

module.exports = { photos };
