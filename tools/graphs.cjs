// The shipped workflows as data: nodes with places, values and links. tools/browser.cjs builds them
// in the real editor, so nothing here knows the file format.
//
// Samplers may show previews while they run; without room for them, the editor would let the node
// grow over what lies below.
//
// A node: [key, type, [x, y, width, height], { title, set: values by widget, from: links by input }].
// A link: [key of the node it comes from, name of that node's output].
'use strict';

const { artists } = require('./graphs/simple.cjs');
const { demos } = require('./graphs/demos.cjs');
const { blinds } = require('./graphs/blind.cjs');
const { compare, customs, several } = require('./graphs/samplers.cjs');
const { simulated } = require('./graphs/sd3.cjs');
const { photos } = require('./graphs/photos.cjs');

// Those for artists are the templates; those for researchers lie in a folder that the host does not list.
const research = [...demos, ...blinds, compare(), several(), ...customs, ...simulated, ...photos];
const workflows = [...artists, ...research.map((each) => ({ ...each, folder: 'research' }))];

module.exports = { workflows };
