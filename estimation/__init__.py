"""What damaged a photo, found in the photo itself: noise, blur, compression."""
