// A photo in, a photo out.
'use strict';

const { JPEG, DEMO, BLUE, GREEN, VIOLET, box, save, show } = require('./parts.cjs');

const simple = {
  name: 'demo_1_restore_photo',
  nodes: [
    ['photo', 'FlowDPS_ReadJpeg', [360, 80, 280, 400], { set: { file: JPEG } }],
    ['prior', 'FlowDPS_LoadFlowPrior', [360, 590, 280, 0], { set: { checkpoint: DEMO } }],
    ['restore', 'FlowDPS_RestorePhoto', [700, 80, 320, 560], {
      set: { seed: 0, control_after_generate: 'fixed' },
      from: { image: ['photo', 'image'], model: ['prior', 'model'], vae: ['prior', 'vae'] },
    }],
    save('restored', 'Restored', 'restored', ['restore', 'image'], [1080, 80, 300, 330]),
    show('both', 'Before and after', ['restore', 'before_after'], [1080, 480, 620, 330]),
    ['said', 'PreviewAny', [700, 710, 320, 150], { title: 'What was found and done', from: { source: ['restore', 'report'] } }],
    ['map', 'MaskToImage', [1420, 80, 280, 0], { from: { mask: ['restore', 'invented'] } }],
    show('invented', 'Where the model invented', ['map', 'IMAGE'], [1420, 170, 280, 240]),
  ],
  groups: [
    box('1 · Photo and model', 340, 0, 320, 810, BLUE),
    box('2 · Restore', 680, 0, 360, 880, GREEN),
    box('3 · Look', 1060, 0, 660, 880, VIOLET),
  ],
  notes: [['What this does', [0, 30, 320, 520], `## Your photo, restored

Press **Run**. Nothing to download: the model comes with this pack.

*Restore Photo* finds out what is wrong with the picture, repairs it, and says below what it
found. Here it is a JPEG of bad quality.

**To change**
- *file*: your photo. For other files than JPEG, put *Load Image* in its place
- *wrong*: tell it what you know, such as *shaken* or *scratched*
- *invent*: 0 keeps to the photo, 1 invents

The small model that comes with the pack has its limits; with SD3 in *checkpoint* it is far
better.`]],
  thumb: [['both', 0, 'before and after']],
};

module.exports = { simple };
