// A photo of which nobody knows how it was damaged: a node finds that out.
'use strict';

const { JPEG, ESTIMATE, AMBER, box, show, report, encode, chain } = require('./parts.cjs');
const { SEE, framed } = require('./demos.cjs');

const YOURS = `Your own photo goes where *The photo* is: connect *Load Image* to the two nodes that take
its image, at its own size.`;
const SEE_FOUND = (found) => `${SEE.replace('What was measured', 'The photo')}

**${found}** says what was found. The restoration knows nothing else: neither the original nor how it was
damaged.`;

// "photo": nodes that make the photo, one of them with the key photo, and those that find the damage.
// Who gives the operator, the noise, the report and, where there is one, the kernel stands in the rest.
function blind(name, {
  picture, photo, operator = 'find', noise = 'find', reports = 'find', kernel, found, example, seed = 1,
  title, what, change,
}) {
  return framed(name, {
    nodes: [
      ['picture', 'FlowDPS_ExamplePicture', [20, 550, 280, 0], { set: { picture } }],
      ...photo,
      show('original', 'Original, to compare', ['picture', 'image'], [360, 550, 280, 230]),
      report('found', reports, [360, 1140, 280, 100], found),
      encode(['photo', 'image'], operator, [360, 1300, 280, 0], { mode: 'observed', noise: [noise, 'noise'] }),
      ...(kernel ? [show('kernel', 'The blur that was found', [kernel, 'kernel'], [20, 1300, 280, 220])] : []),
    ],
    before: example ? [box('The example', -360, 470, 340, 870, AMBER)] : [],
    second: ['2 · The photo, and what it tells', 1110], measured: 'The photo', label: 'the photo',
    seed, title, what, change, seen: SEE_FOUND(found),
  });
}

const damaged = (operator, noise, place, { key = 'photo', picture = 'picture', title = 'The photo' } = {}) =>
  encode([picture, 'image'], operator, place, { key, title, noise });
const FIND = [360, 850, 280, 0];

const blinds = [
  blind('demo_blind_out_of_focus', {
    picture: 'bee', kernel: 'find', found: 'The blur',
    photo: [
      ...chain([['DefocusBlur', { radius: 3.5, boundary: 'symmetric' }, 82]], 20, 690),
      damaged('operator1', 0.02, [20, 850, 280, 0]),
      ['find', 'FlowDPS_EstimateBlur', FIND, { set: ESTIMATE, from: { image: ['photo', 'image'] } }],
    ],
    title: 'Out of focus, and nobody knows how far',
    what: '*Estimate Blur Kernel* finds the blur and the noise in the photo alone, and hands both on.',
    change: `- *radius* of Out of Focus: another blur, to be found anew
- another node in its place: Gaussian Blur is found as well
- ${YOURS}
`,
  }),
  blind('demo_blind_noise', {
    picture: 'butterfly', operator: 'operator1', found: 'The noise',
    photo: [
      ...chain([['Identity', {}, 30]], 20, 690),
      damaged('operator1', 0.25, [20, 850, 280, 0]),
      ['find', 'FlowDPS_EstimateNoise', FIND, { from: { image: ['photo', 'image'] } }],
    ],
    title: 'Remove grain, and nobody knows how much',
    what: '*Estimate Noise* measures the grain where the photo is flattest, and hands the number on.',
    change: `- *noise* of The photo: more or less grain, to be measured anew
- ${YOURS}
`,
  }),
  blind('demo_jpeg_repair', {
    picture: 'house', operator: 'photo', noise: 'photo', reports: 'photo', found: 'The file',
    photo: [['photo', 'FlowDPS_ReadJpeg', [20, 850, 280, 0], { set: { file: JPEG } }]],
    title: 'Repair a JPEG',
    what: `*Read JPEG* loads a file, and reads in it how it was compressed: quality 10. *noise* is what that took
away. The JPEG itself has no grain, so that a residual far below 1 time the noise is right here.`,
    change: '- *file* of Read JPEG: your own, as it came from the web; neither resized nor cropped\n',
  }),
  blind('demo_learn_from_example', {
    picture: 'truck', kernel: 'find', found: 'What was learnt', example: true,
    photo: [
      ...chain([['MotionBlur', { size: 11, intensity: 0.5, seed: 4, boundary: 'symmetric' }, 150]], 20, 690),
      ['chart', 'FlowDPS_ExamplePicture', [-340, 550, 280, 0], { set: { picture: 'butterfly' } }],
      damaged('operator1', 0.02, [-340, 700, 280, 0],
        { key: 'seen', picture: 'chart', title: 'The example, damaged' }),
      show('example', 'The example, damaged', ['seen', 'image'], [-340, 1060, 280, 240]),
      damaged('operator1', 0.02, [20, 980, 280, 0]),
      ['find', 'FlowDPS_OperatorFromExample', FIND, {
        set: { size: 13 }, from: { clean: ['chart', 'image'], degraded: ['seen', 'image'] },
      }],
    ],
    title: 'Learn the damage from an example',
    what: `Of one picture you have both, clean and damaged: *Operator From Example* learns the damage and the
noise from the pair. Any other picture that was damaged in the same way can then be restored.`,
    change: `- *Motion Blur*: another damage; it is only there to make the two damaged pictures
- your own pair, pixel on pixel, and your own photo: *Load Image* three times
`,
  }),
];

module.exports = { blinds };
