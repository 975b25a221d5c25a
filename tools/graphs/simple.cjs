// For artists: a photo in, a photo out. Every one has the node Restore Photo and little else.
'use strict';

const { SD3, SD3_URL, SD3_FILE, BLUE, GREEN, AMBER, VIOLET, box, save, show } = require('./parts.cjs');

const MODEL = 'built-in photo prior';
const YOURS = `Choose it in *The photo*, or drop it there. Nothing is cropped or shrunk.`;
const LARGER = `The small model in the box knows photographs a little. A large one, such as SD3, invents better:
see *photo_12_with_sd3*.`;

const INVENTED = ` *Invented here* is bright where detail was added that is not in the photo.`;

// Files that the pack copies into the input folder have its name in front, see nodes/example.py.
const opened = (file, height = 330) => ['photo', 'LoadImage', [320, 80, 280, height], {
  title: 'The photo', set: { image: file },
}];
const example = (picture, height) => opened(`FlowDPS ${picture}.${picture === 'bad JPEG' ? 'jpg' : 'webp'}`, height);

// Forms show pictures and films as results, and no text: the report is read among the fields.
const REPORT = ['said', 'preview_text'];
// What the editor's search says of the blueprints.
const BLUEPRINTS = {
  'Restore a photo (FlowDPS)': `Finds out what is wrong with a photo and repairs it, with a small model that comes along.
Open it to choose what is wrong, or another model.`,
  'Enlarge a photo (FlowDPS)': `Makes a small photo twice as large, with a small model that comes along.
Open it to choose how much larger, or another model.`,
  'Mend scratches (FlowDPS)': `Finds scratches and makes them anew; all other pixels stay.
Open it to choose how sensitive the search is, or another model.`,
};
const ADVANCED = ['versions', 'sensitivity'];

// "photo" gives the picture; "more" are nodes between it and the restoration. "asks" are what the form
// of App mode asks beside the photo and what is usual.
function simple(name, {
  photo, image = ['photo', 'IMAGE'], more = [], set = {}, from = {}, model = MODEL, modelAt = 445, asks = [],
  title, what, change, you = YOURS, large = LARGER, blueprint, crop, thumb,
}) {
  return {
    name,
    nodes: [
      photo,
      ['prior', 'FlowDPS_LoadFlowPrior', [320, modelAt, 280, 0], {
        set: { checkpoint: model }, models: model === SD3 ? [SD3_FILE] : undefined,
      }],
      ...more,
      ['restore', 'FlowDPS_RestorePhoto', [660, 80, 300, 690], {
        advanced: asks.some(([, widget]) => ADVANCED.includes(widget)),
        set: { seed: 0, control_after_generate: 'fixed', ...set },
        from: { image, model: ['prior', 'model'], vae: ['prior', 'vae'], ...from },
      }],
      ['said', 'PreviewAny', [10, 570, 260, 200], {
        title: 'What was found and done', from: { source: ['restore', 'report'] },
      }],
      show('both', 'Before and after', ['restore', 'before_after'], [1020, 80, 460, 270]),
      ...(crop ? stitched(name) : mapped(name)),
    ],
    groups: [
      box('4 · Read', 0, 500, 280, 290, AMBER),
      box('1 · Photo and model', 300, 0, 320, 790, BLUE),
      box('2 · Restore', 640, 0, 340, 790, GREEN),
      box('3 · Look', 1000, 0, 500, 790, VIOLET),
    ],
    notes: [['What this does', [0, 30, 280, 450], `## ${title}

Press **Run**.

${what}

**Look.** *What was found and done* says what was wrong and whether the result agrees with the photo.${crop ? '' : INVENTED}

**Change**
${change}
**Your photo.** ${you}

${large}`]],
    app: {
      inputs: [['photo', 'image'], ...asks.filter(([key]) => key !== 'restore'), ['restore', 'wrong'],
        ...asks.filter(([key]) => key === 'restore'),
        ...['strength', 'invent', 'effort', 'seed'].map((widget) => ['restore', widget]), REPORT],
      outputs: ['both', 'restored', 'said'],
    },
    thumb: thumb || [['both', 0, 'before and after']],
    blueprint: blueprint && { title: blueprint, nodes: ['prior', 'restore'], description: BLUEPRINTS[blueprint] },
  };
}

const mapped = (name) => [
  save('restored', 'Restored', name, ['restore', 'image'], [1020, 420, 220, 350]),
  ['map', 'MaskToImage', [1260, 420, 220, 0], { from: { mask: ['restore', 'invented'] } }],
  show('invented', 'Invented here', ['map', 'IMAGE'], [1260, 510, 220, 260]),
];
const stitched = (name) => [
  ['stitch', 'FlowDPS_StitchDetail', [1020, 420, 220, 0], {
    from: { image: ['restore', 'image'], stitch: ['crop', 'stitch'] },
  }],
  save('restored', 'The whole photo', name, ['stitch', 'image'], [1260, 420, 220, 350]),
];

// Old video: frames in, twice as many frames out.
function film(name) {
  return {
    name,
    nodes: [
      ['photo', 'LoadVideo', [320, 80, 280, 300], { title: 'The video', set: { file: 'FlowDPS old video.mp4' } }],
      ['frames', 'GetVideoComponents', [320, 420, 280, 0], { from: { video: ['photo', 'VIDEO'] } }],
      ['prior', 'FlowDPS_LoadFlowPrior', [320, 560, 280, 0], { set: { checkpoint: MODEL } }],
      ['restore', 'FlowDPS_RestoreFilm', [660, 80, 300, 690], {
        advanced: true, set: { wrong: 'old video', seed: 0, control_after_generate: 'fixed' },
        from: {
          image: ['frames', 'images'], fps: ['frames', 'fps'], model: ['prior', 'model'], vae: ['prior', 'vae'],
        },
      }],
      ['said', 'PreviewAny', [10, 570, 260, 200], {
        title: 'What was found and done', from: { source: ['restore', 'report'] },
      }],
      show('before', 'Frames before', ['frames', 'images'], [1020, 80, 220, 260]),
      show('after', 'Frames after', ['restore', 'image'], [1260, 80, 220, 260]),
      ['video', 'CreateVideo', [1020, 420, 220, 0], {
        from: { images: ['restore', 'image'], fps: ['restore', 'fps'], audio: ['frames', 'audio'] },
      }],
      ['restored', 'SaveVideo', [1260, 420, 220, 350], {
        title: 'Restored', set: { filename_prefix: `FlowDPS/${name}` }, from: { video: ['video', 'VIDEO'] },
      }],
    ],
    groups: [
      box('4 · Read', 0, 500, 280, 290, AMBER),
      box('1 · Video and model', 300, 0, 320, 790, BLUE),
      box('2 · Restore', 640, 0, 340, 790, GREEN),
      box('3 · Look', 1000, 0, 500, 790, VIOLET),
    ],
    notes: [['What this does', [0, 30, 280, 450], `## Old video

Press **Run**.

Nothing to download: the model comes with this pack. It needs about a minute on a processor. Old video shows every
second line of another instant, so that whatever moves has combs. *Restore Film* makes a frame of every instant, twice
as many as before, and removes the grain. Frames tell of each other, so that they flicker less.

**Change**
- *wrong*: another damage, or *find out by itself*
- *over_time*: *fields, bottom first* if edges jump back and forth
- *flicker*: even brightness

**Your video.** Choose it in *The video*. ComfyUI holds all of its frames in memory: begin with some seconds.`]],
    app: {
      inputs: [['photo', 'file'], ...['wrong', 'over_time', 'flicker', 'strength', 'invent', 'effort', 'seed']
        .map((widget) => ['restore', widget]), REPORT],
      outputs: ['after', 'restored', 'said'],
    },
    thumb: [['before', 0, 'before'], ['after', 0, 'after']],
  };
}

const NOTHING = 'Nothing to download: the model comes with this pack. It needs about half a minute on a processor.';

const artists = [
  simple('photo_01_restore', {
    blueprint: 'Restore a photo (FlowDPS)',
    photo: example('out of focus'), title: 'Your photo, restored',
    what: `${NOTHING} *Restore Photo* finds out what is wrong with the photo, and repairs it. Here the lens was out of
focus.`,
    change: `- *The photo*: your own, or another *FlowDPS* example; each is damaged in its own way
- *wrong*: tell it what you know
- *invent*: 0 keeps to the photo, 1 invents
`,
  }),
  simple('photo_02_enlarge', {
    blueprint: 'Enlarge a photo (FlowDPS)',
    photo: example('small'), set: { wrong: 'small', enlarge: 2 },
    asks: [['restore', 'enlarge']], title: 'Make a small photo larger',
    what: `${NOTHING} The photo has 128 × 128 pixels and becomes twice as large.`,
    change: '- *enlarge*: how many times larger; the more, the more has to be invented\n- *invent*: less or more detail\n',
  }),
  simple('photo_03_camera_shake', {
    photo: example('shaken'), set: { wrong: 'shaken' }, title: 'The camera shook',
    what: `${NOTHING} How the camera moved is found in the photo. If it cannot be told, the report says so and no
movement is undone, rather than one that rings.`,
    change: '- *strength*: strong undoes more than was found, gentle less\n',
  }),
  simple('photo_04_grain', {
    photo: example('grainy'), set: { wrong: 'grainy' }, title: 'Remove grain',
    what: `${NOTHING} The grain is measured where the photo is flattest.`,
    change: '- *strength*: gentle leaves some grain, strong makes it smoother\n',
  }),
  simple('photo_05_bad_jpeg', {
    photo: example('bad JPEG'), set: { wrong: 'bad JPEG' }, title: 'Repair a bad JPEG',
    what: `${NOTHING} The quality with which it was saved is found in its pixels. It must come as it was saved:
neither resized nor saved again.`,
    change: '- *invent*: more brings back more detail that may never have been there\n',
  }),
  simple('photo_06_scratches', {
    blueprint: 'Mend scratches (FlowDPS)',
    photo: example('scratched'), set: { wrong: 'scratched' }, asks: [['restore', 'sensitivity']],
    title: 'Mend scratches',
    what: `${NOTHING} Scratches are found by themselves and made anew. All other pixels stay as they are, to the last
bit.`,
    change: `- *sensitivity*: lower if hairs or wires are taken for scratches, higher if scratches stay
- *mask*: paint it yourself, see *photo_11_paint_what_is_lost*
`,
  }),
  simple('photo_07_old_photo', {
    photo: example('old photo'), set: { wrong: 'several at once' }, asks: [['restore', 'sensitivity']],
    title: 'An old photo',
    what: `${NOTHING} Soft, grainy and scratched: all of it is found and undone at once.`,
    change: '- *strength*: gentle keeps more of the old film\n- *sensitivity*: fewer or more scratches\n',
  }),
  film('photo_08_old_video'),
  simple('photo_09_versions', {
    photo: example('small'), set: { wrong: 'small', enlarge: 2, invent: 0.7, effort: 'fast', versions: 3 },
    asks: [['restore', 'versions'], ['restore', 'enlarge']], title: 'Several versions to choose from',
    what: `${NOTHING} Where a photo tells little, several pictures fit it. Three are made; the map is bright where they
differ, so what you see there is invented.`,
    change: '- *versions*: how many\n- *invent*: more lets them differ more\n',
  }),
  simple('photo_10_face_or_detail', {
    photo: example('shaken', 200), image: ['crop', 'image'], crop: true, set: { wrong: 'shaken' }, modelAt: 315,
    asks: ['x', 'y', 'width', 'height'].map((widget) => ['crop', widget]),
    more: [['crop', 'FlowDPS_CropDetail', [320, 525, 280, 0], {
      set: { padding: 32, x: 88, y: 48, width: 96, height: 128 }, from: { image: ['photo', 'IMAGE'] },
    }]],
    title: 'Only a face, or another detail',
    what: `${NOTHING} *Crop Detail* cuts the face out, *Restore Photo* repairs it, and *Stitch Detail* puts it back
without a seam. All other pixels stay as they are. For large photos this is faster, and a face gets all of the model.`,
    change: `- *x*, *y*, *width*, *height* of Crop Detail: where the detail is; or connect a painted mask or the boxes of a
face detector
- *feather* of Stitch Detail: how softly its edge fades
`,
  }),
  simple('photo_11_paint_what_is_lost', {
    thumb: { of: 'photo_06_scratches', title: 'Paint over what is lost (here: scratches)' },
    photo: example('scratched'), from: { mask: ['photo', 'MASK'] },
    set: { wrong: 'scratched', effort: 'fast' }, title: 'Paint over what is lost',
    what: `Open *The photo* in the mask editor (right click on it) and paint over what is lost: a scratch, a stain,
somebody in the background. That part is made anew, and every other pixel stays as it is. Where nothing is painted,
scratches are looked for.`,
    change: '- *invent*: for large parts, 0.7 and more\n',
  }),
  simple('photo_12_with_sd3', {
    thumb: { of: 'photo_01_restore', title: 'With SD3 (the picture: the built-in model)' },
    photo: opened('example.png'), model: SD3, asks: [['prompt', 'text']],
    more: [['prompt', 'CLIPTextEncode', [320, 655, 280, 110], {
      title: 'What the photo shows', set: { text: 'a drawing of a girl in a pink dress on a green hill, blue sky' },
      from: { clip: ['prior', 'clip'] },
    }]],
    from: { prompt: ['prompt', 'CONDITIONING'] }, title: 'With Stable Diffusion 3',
    what: `**You need** [Stable Diffusion 3 Medium](${SD3_URL}) with its text encoders in \`models/checkpoints\`. Any other
flow model that ComfyUI loads works as well: SD3.5, Flux, ... LoRA nodes go between model and *Restore Photo*.`,
    change: '- *What the photo shows*: say it in a few words\n- *wrong*, *strength*, *invent*: as in the others\n',
    you: 'Choose it in *The photo*. Nothing is cropped or shrunk; large ones are restored in tiles.',
    large: 'On a processor it takes long: use a graphics card.',
  }),
];

module.exports = { artists, simple, example, NOTHING };
